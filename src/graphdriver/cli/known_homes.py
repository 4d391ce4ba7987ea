"""The homes of this machine: at the usual places, and by the Inits that plugins remember."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from graphdriver.errors import GraphDriverError

if TYPE_CHECKING:
    from graphdriver.docker.daemon import Daemon

DATA_ROOT: Final = "/var/lib/docker"
"""Where a Docker daemon keeps all its data by default."""

CONTAINERD_ROOT: Final = "/var/lib/containerd"
"""Where containerd and kubelet look for a snapshotter's files by default."""

Remembered: TypeAlias = "tuple[str, Daemon]"
"""The name of a plugin's state directory, and the daemon whose Init is remembered there."""


def snapshotter_root(name: str, containerd_root: str = CONTAINERD_ROOT) -> str:
    """Return where a snapshotter keeps its files by default, as containerd's own ones do."""
    return f"{containerd_root}/io.containerd.snapshotter.v1.{name}"


def homes_in(root: str) -> Iterator[str]:
    """Yield the homes in an engine's root, also in that of a Docker daemon with remapped ids."""
    from graphdriver.serving.home_contents import IDENTITY

    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(root))
    for name in names:
        path = os.path.join(root, name)
        if os.path.lexists(os.path.join(path, IDENTITY)):
            yield path
        elif name.replace(".", "", 1).isdecimal():  # UID.GID
            yield from homes_in(path)


def remembered() -> Iterator[Remembered]:
    """Yield the Inits that plugins remember; what is damaged is left out."""
    from graphdriver.docker.daemon import InitFile
    from graphdriver.docker.state import STATES

    states: list[str] = []
    with contextlib.suppress(OSError):
        states = sorted(os.listdir(STATES))
    for state in states:
        with contextlib.suppress(OSError, ValueError, GraphDriverError):
            if daemon := InitFile(os.path.join(STATES, state)).read():
                yield state, daemon


def daemon_of(plugin: str, known: Iterable[Remembered]) -> Daemon | None:
    """Return the daemon whose Init a plugin remembers, whether or not it runs.

    Args:
        plugin: its name.
        known: what `remembered` yields.
    """
    from graphdriver.docker.address.discovery import find
    from graphdriver.docker.state import state_of_name, state_of_socket

    states = {plugin, state_of_name(plugin)}
    with contextlib.suppress(GraphDriverError):
        states.add(state_of_socket(find(plugin).path))
    return next((daemon for state, daemon in known if state in states), None)
