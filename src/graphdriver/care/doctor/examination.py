"""All checks of a machine, each on its own: one that cannot be made does not end the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from graphdriver.care.doctor import daemon, daemon_api, home, kernel, limits, mounts, propagation
from graphdriver.care.doctor.containerd import ContainerdFacts, check_containerd
from graphdriver.care.doctor.places import PlaceFacts, check_places
from graphdriver.care.findings import Finding, Severity
from graphdriver.errors import GraphDriverError
from graphdriver.serving.home import identity_of, serving_processes

_ROOT: Final = "io.containerd.snapshotter.v1."
"""How the name of a snapshotter's root begins by default."""


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, and the name of the check that made it: ``kernel``."""

    check: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class KnownHome:
    """A home to look at, and what is known of those who use it.

    Attributes:
        home: the home.
        plugin: the name of the plugin that should serve it; ``""``: unknown.
        daemon: the process of the daemon that uses it; None: unknown.
    """

    home: str
    plugin: str = ""
    daemon: int | None = None


def examine(
    homes: Sequence[KnownHome],
    places: Callable[[], Sequence[PlaceFacts]],
    built_in: frozenset[str],
    containerd: Callable[[], ContainerdFacts],
    daemon_socket: str = daemon_api.SOCKET,
) -> Iterator[Found]:
    """Yield all findings, one subject after the other.

    Args:
        homes: the homes.
        places: reads the places where daemons look for plugins.
        built_in: the names of drivers that a daemon has itself.
        containerd: asks containerd about itself.
        daemon_socket: where Docker's daemon listens.
    """
    yield from _made("kernel", lambda: kernel.check_kernel(kernel.read_kernel()))
    for one in homes:
        yield from _made("home", partial(_home, one.home))
    engines = [_engine_of(one.home) for one in homes]
    if "containerd" in engines:
        root = os.path.basename(homes[engines.index("containerd")].home)
        name = root.removeprefix(_ROOT) if root.startswith(_ROOT) else ""
        yield from _made("daemon", lambda: check_containerd(containerd(), name))
    if set(engines) != {"containerd"}:
        plugin = homes[0].plugin if len(homes) == 1 else ""
        yield from _made(
            "daemon", lambda: daemon.check_daemon(daemon.read_daemon(daemon_socket), plugin)
        )
    yield from _made("sockets", lambda: check_places(places(), built_in))
    for one in homes:
        yield from _made("mounts", partial(_mounts, one.home))
        yield from _made("propagation", partial(_propagation, one))
    users = {("plugin", _server_of(one.home)): None for one in homes}
    users |= {("daemon", one.daemon): None for one in homes}
    known = [(role, pid) for role, pid in users if pid is not None]
    yield from _made("limits", lambda: limits.check_limits(limits.read_limits(known)))


def _home(path: str) -> Iterator[Finding]:
    return home.check_home(home.read_home(path))


def _mounts(path: str) -> Iterator[Finding]:
    identity = identity_of(path)
    named = (identity.engine, identity.driver) if identity else ("", "")
    return mounts.check_mounts(mounts.read_mounts(path, *named))


def _propagation(one: KnownHome) -> Iterator[Finding]:
    facts = propagation.read_propagation(one.home, _server_of(one.home), one.daemon)
    return propagation.check_propagation(facts)


def _engine_of(path: str) -> str:
    with contextlib.suppress(OSError, GraphDriverError):  # a damaged record is found elsewhere
        identity = identity_of(path)
        return identity.engine if identity else ""
    return ""


def _server_of(path: str) -> int | None:
    return next(iter(serving_processes(path)), None)


def _made(check: str, make: Callable[[], Iterable[Finding]]) -> Iterator[Found]:
    """Yield what a check finds; a check that fails is a finding, too."""
    try:
        for finding in make():
            yield Found(check, finding)
    except (OSError, ValueError, LookupError, RecursionError, GraphDriverError) as error:
        text = f"the check could not be made: {error}"
        yield Found(
            check,
            Finding(Severity.WARNING, "unchecked", check, text, "look there by hand, as root"),
        )


def worst(found: Iterable[Found]) -> Severity:
    """Return the worst severity; a note if nothing was found."""
    return max((one.finding.severity for one in found), default=Severity.NOTE)
