"""Machines of a network on this machine: a network namespace for each, and this machine among them."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support.ground import tool


@dataclass(frozen=True)
class Host:
    """A machine in a network.

    Attributes:
        namespace: the name of its network namespace.
        address: its IP address.
    """

    namespace: str
    address: str

    @property
    def program(self) -> Sequence[str]:
        """The words before a command that runs on it; it sees the same mounts as this machine."""
        return (tool("nsenter"), f"--net=/run/netns/{self.namespace}")

    @property
    def received(self) -> int:
        """How many bytes it has received."""
        (link,) = json.loads(_ip("-n", self.namespace, "-j", "-s", "link", "show", "eth0"))
        return int(link["stats64"]["rx"]["bytes"])


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        address: this machine's IP address in it.
        hosts: the other machines.
    """

    address: str
    hosts: Sequence[Host]


@contextlib.contextmanager
def network(hosts: int, rate: str = "") -> Iterator[Network]:
    """Make a network for the length of a ``with`` block.

    Args:
        hosts: how many machines it has, beside this one.
        rate: how fast this machine sends to all of them together, as tc(8) writes it: ``1gbit``;
            ``""``: without a limit.
    """
    number = random.randrange(1 << 9)  # of those for measuring networks (RFC 2544)
    prefix = f"198.{18 + (number >> 8)}.{number & 255}"
    bridge = f"gd{number}"
    with contextlib.ExitStack() as held:
        _ip("link", "add", bridge, "type", "bridge")
        held.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{prefix}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        if rate:
            limit = ["tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]
            subprocess.run([tool("tc"), "qdisc", "add", "dev", bridge, "root", *limit], check=True)
        found = []
        for each in range(2, hosts + 2):
            one = Host(f"{bridge}-{each}", f"{prefix}.{each}")
            _ip("netns", "add", one.namespace)
            held.callback(_ip, "netns", "del", one.namespace)
            _connect(one, bridge)
            found.append(one)
        yield Network(f"{prefix}.1", found)


def _connect(host: Host, bridge: str) -> None:
    here, there = ("dev", host.namespace), ("-n", host.namespace)
    peer = ("peer", "name", "eth0", "netns", host.namespace)
    _ip("link", "add", host.namespace, "type", "veth", *peer)
    _ip("link", "set", *here, "master", bridge, "up")
    _ip(*there, "link", "set", "lo", "up")
    _ip(*there, "addr", "add", f"{host.address}/24", "dev", "eth0")
    _ip(*there, "link", "set", "eth0", "up")


def _ip(*words: str) -> bytes:
    command = [tool("ip"), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
