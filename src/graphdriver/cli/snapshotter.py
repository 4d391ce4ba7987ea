"""``graphdriver snapshotter``: serve a driver to containerd until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import socket
from typing import TYPE_CHECKING, Final

from graphdriver.cli import watching
from graphdriver.cli.command import OK, WARNED, Command, needs_grpc
from graphdriver.cli.known_homes import snapshotter_root
from graphdriver.cli.serving import (
    configure_driver,
    configure_log,
    configure_options,
    driver_of,
    run_logged,
    set_up_log,
)
from graphdriver.errors import MalformedRequestError, UnreachableError

if TYPE_CHECKING:
    from graphdriver.containerd.snapshots import Snapshots
    from graphdriver.driver import ProtoDriver
    from graphdriver.serving.signals import Signals

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EXAMPLES = """\
examples:
  graphdriver snapshotter --address /run/gd/mine.sock          the best driver, as "mine"
  graphdriver snapshotter vfs --address /run/gd/mine.sock -v   vfs; log every call
  graphdriver snapshotter --address /run/gd/mine.sock --print-config --containerd 2.1
  graphdriver snapshotter --address /run/gd/mine.sock --check-config /etc/containerd/config.toml
  ctr image import --snapshotter mine image.tar
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    configure_driver(parser)
    parser.add_argument(
        "--address", required=True, metavar="SOCKET", help="the unix socket to listen on"
    )
    parser.add_argument(
        "--name", help="the snapshotter's name in containerd (default: the socket's name)"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help=f"(default: {snapshotter_root('NAME')})",
    )
    parser.add_argument(
        "--containerd-socket",
        metavar="SOCKET",
        help="where containerd listens; the diff service reads and writes layers there"
        " (default: /run/containerd/containerd.sock)",
    )
    parser.add_argument(
        "--shared",
        metavar="STORE",
        help="a store with layers of all nodes (graphdriver share): a pull takes from there what is"
        " there",
    )
    parser.add_argument(
        "--shared-wait",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how long a pull waits until the first bytes of a layer come from there (default: 2)",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="put layers that are pulled from elsewhere into the store of --shared",
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="leave the tars of layers in the directory of --shared, and read them there each time; for"
        " stores that are mounted and trusted, with the driver erofs",
    )
    parser.add_argument("--group", help="a group, by name or number, that may call it besides root")
    configure_options(parser)
    configuration = parser.add_mutually_exclusive_group()
    configuration.add_argument(
        "--print-config", action="store_true", help="print containerd's configuration and exit"
    )
    configuration.add_argument(
        "--check-config",
        metavar="FILE",
        help="print what containerd's configuration lacks and exit, with 13 if it lacks anything",
    )
    parser.add_argument(
        "--containerd",
        metavar="VERSION",
        help="the containerd of that configuration, 1.6 or later (default: the one that runs)",
    )
    watching.configure(parser)
    configure_log(parser)


def _run(arguments: argparse.Namespace) -> int:
    return run_logged(arguments, _run_snapshotter)


def _run_snapshotter(arguments: argparse.Namespace) -> int:
    address = os.path.abspath(arguments.address)
    name = arguments.name or os.path.basename(address).removesuffix(".sock")
    if not _NAME.fullmatch(name):
        raise MalformedRequestError(
            f"{name!r} cannot be a snapshotter's name, {_NAME.pattern}",
            hint="choose one with --name",
        )
    from graphdriver.serving import process

    root = os.path.abspath(arguments.root or snapshotter_root(name))
    if arguments.print_config or arguments.check_config:
        return _configuration(arguments, name, address, root)
    process.prepare()
    return _serve(arguments, name, address, root)


def _configuration(arguments: argparse.Namespace, name: str, address: str, root: str) -> int:
    """Print containerd's configuration, or what it lacks."""
    from graphdriver.abilities import TakesParentLater, ability
    from graphdriver.containerd.config import Snapshotter, Version, config, missing
    from graphdriver.drivers.loading import load
    from graphdriver.serving.home import identity_of

    version = Version.parse(arguments.containerd or _running_version(arguments.containerd_socket))
    identity = None if arguments.driver else identity_of(root)
    driver = arguments.driver or (identity.driver if identity else "")
    is_able = bool(driver) and ability(load(driver), TakesParentLater) is not None
    if arguments.shared:  # under rebase only the first layer of an image would come from the store
        is_able = False
    one = Snapshotter(name, address, root, os.uname().machine, is_able)
    if arguments.print_config:
        print(config(one, version), end="")
        return OK
    found = missing(arguments.check_config, one, version)
    for line in found:
        print(line)
    return WARNED if found else OK


def _running_version(path: str | None) -> str:
    """Ask the containerd that runs for its version."""
    try:
        from graphdriver.containerd.daemon_client import SOCKET, ask_containerd
    except ImportError as error:
        raise needs_grpc(error) from error
    try:
        return ask_containerd(os.path.abspath(path or SOCKET)).version
    except UnreachableError as error:
        raise UnreachableError(
            error.problem, hint="name the version of the configuration with --containerd VERSION"
        ) from error


def _serve(arguments: argparse.Namespace, name: str, address: str, root: str) -> int:
    import logging

    from graphdriver.drivers.loading import load, make
    from graphdriver.serving.notify import Notifier
    from graphdriver.serving.privileges import USER_NAMESPACES, give_up_privileges
    from graphdriver.serving.signals import Signals, raise_until_served

    raise_until_served()
    set_up_log(arguments)
    driver = driver_of(arguments, root)
    give_up_privileges(load(driver.name), USER_NAMESPACES)
    try:
        from graphdriver.containerd.server import SnapshotterServer
    except ImportError as error:
        raise needs_grpc(error) from error

    log = logging.getLogger(__name__)
    numbers, wake = socket.socketpair()
    wake.setblocking(False)
    signals = Signals(wake.fileno())
    notifier = Notifier.wanted() if "NOTIFY_SOCKET" in os.environ else None
    snapshots = _snapshots(make(driver.name), root, arguments)
    try:
        server = SnapshotterServer(snapshots, address, arguments.group, arguments.containerd_socket)
    except BaseException:
        snapshots.close()
        raise
    with (
        server,
        watching.watched(arguments, snapshots.served),
        contextlib.closing(signals),
    ):
        if notifier:
            notifier.ready(f"serving {driver.name} on {address}")
        elif arguments.log_format == "text":
            print(f"serving {driver} on {address}, layers in {root}")
            command = ["graphdriver", "snapshotter", "--address", address, "--name", name]
            shown = shlex.join([*command, "--root", root, "--print-config"])
            print(f"for /etc/containerd/config.toml: {shown}", flush=True)
        log.info("serving %s on %s", driver.name, address)
        numbers.settimeout(notifier.interval if notifier else None)
        while not _is_stopped(signals, numbers):
            if notifier:
                notifier.is_alive()
        log.info("stopping")
        if notifier:
            notifier.stopping()
    return OK


def _snapshots(driver: ProtoDriver, root: str, arguments: argparse.Namespace) -> Snapshots:
    """Return the snapshots, with a shared store if there is one."""
    from graphdriver.containerd.shared_layers import SharedSnapshots
    from graphdriver.containerd.snapshots import Snapshots
    from graphdriver.shared.layers import SharedLayers
    from graphdriver.shared.opening import open_store

    if not arguments.shared:
        for option in ("publish", "in_place"):
            if getattr(arguments, option):
                name = option.replace("_", "-")
                raise MalformedRequestError(f"--{name} needs --shared STORE")
        return Snapshots(driver, root, arguments.opt)
    store = open_store(arguments.shared)
    if arguments.in_place and not store.in_place:
        raise MalformedRequestError(
            f"--in-place needs a store that is a directory, and {store.address} is none"
        )
    return SharedSnapshots(
        driver,
        root,
        arguments.opt,
        shared=SharedLayers(store),
        wait=arguments.shared_wait,
        publishes=arguments.publish,
        in_place=arguments.in_place,
    )


def _is_stopped(signals: Signals, numbers: socket.socket) -> bool:
    """Wait for a signal, at most until the socket's timeout; tell whether it is a stop."""
    try:
        return signals.note(numbers.recv(64))
    except TimeoutError:
        return False


COMMAND: Final = Command(
    name="snapshotter",
    summary="serve a driver to containerd, as a proxy snapshotter",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
)
