"""The state directories in which plugins remember Init, and their removal.

Each plugin has a directory below `STATES`, named after its listener. It removes that directory when it
ends after its daemon's Cleanup. Another plugin that starts removes it if its socket is gone, and its
daemon has called Cleanup, is known to be gone, or was connected over TCP and its home is gone. The
directories of plugins in other namespaces stay: their sockets and daemons may not be visible from here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import Final

from graphdriver.docker.address.listeners import PLUGIN_SOCKETS, Listener
from graphdriver.docker.daemon import INIT, Daemon, InitFile
from graphdriver.errors import InUseError, UnsupportedError
from graphdriver.files.directories import make_own
from graphdriver.files.runtime_directory import (
    RUNTIME,
    file_name,
    is_of_our_namespaces,
    mark_namespaces,
    path_of,
)

STATES: Final = f"{RUNTIME}/plugins"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OF_NAME: Final = "name="
"""Prefix for a plugin that is found by its name; no escaped path or address has a ``=``."""

_log = logging.getLogger(__name__)


def state_name(listener: Listener, name: str = "") -> str:
    """Return the name of a plugin's state directory, a different one for each address.

    Args:
        listener: the plugin's first listener.
        name: the plugin's name, if a daemon finds it only by that: its port may change.
    """
    path: str = getattr(listener, "path", "")
    if not path:
        return state_of_name(name) if name else file_name(listener.address)
    return state_of_socket(path)


def state_of_name(name: str) -> str:
    """Return the name of the state directory of a plugin that a daemon finds only by its name."""
    return f"{_OF_NAME}{name}"


def state_of_socket(path: str) -> str:
    """Return the name of the state directory of a plugin that listens on a unix socket."""
    directory, file = os.path.split(path)
    directory = os.path.realpath(directory)
    stem = file.removesuffix(".sock")
    if directory == PLUGIN_SOCKETS and file != stem and _NAME.fullmatch(stem):
        return stem
    return file_name(os.path.join(directory, file))


def make_state_directory(state: str, states: str = STATES) -> str:
    """Make a plugin's state directory, and remove those of plugins that are gone; return its path.

    Args:
        state: its name, from `state_name`.
        states: where the state directories are.

    Raises:
        UnsupportedError: it cannot be made, or is another user's.
    """
    path = os.path.join(states, state)
    try:
        for one in (os.path.dirname(states), states):
            make_own(one, 0o700)
        # Locked: another plugin that starts must not sweep it before it is marked.
        with InitFile(path).locked():
            make_own(path, 0o700)
            mark_namespaces(path)
        _sweep(states, state)
    except OSError as error:
        raise UnsupportedError(
            f"the state directory {path} cannot be made: {error.strerror}",
            hint="a plugin that is restarted finds its home by it; see that /run can be written to",
        ) from error
    return path


def is_remembered(directory: str) -> bool:
    """Tell whether an Init is remembered in a state directory."""
    return os.path.lexists(os.path.join(directory, INIT))


def _sweep(states: str, mine: str) -> None:
    for state in sorted(set(os.listdir(states)) - {mine}):
        directory = os.path.join(states, state)
        if _has_socket(state) or not is_of_our_namespaces(directory):
            continue
        file = InitFile(directory)
        # No wait for a locked file: the process that writes it may be stopped.
        with contextlib.suppress(InUseError), file.locked(timeout=0):
            try:
                daemon = file.read()
            except ValueError as error:
                _log.warning("removing %s: %s", directory, error)
                daemon = None
            except OSError as error:  # not one of ours; the plugin can start anyway
                _log.warning("leaving %s as it is: %s", directory, error.strerror)
                continue
            if daemon is None or _is_gone(daemon):
                file.remove()


def _has_socket(state: str) -> bool:
    path = path_of(state) or ""
    return os.path.lexists(path if path.startswith("/") else f"{PLUGIN_SOCKETS}/{state}.sock")


def _is_gone(daemon: Daemon) -> bool:
    if not daemon.may_call():
        return True
    # It is unknown whether a daemon over TCP lives; without its home it does not need a plugin.
    return daemon.peer is None and not os.path.isdir(daemon.init.home)
