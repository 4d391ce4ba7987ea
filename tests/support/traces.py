"""The files of a plugin outside of a test's own directory: spec files and state."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from graphdriver.docker.address.listeners import PLUGIN_SOCKETS
from graphdriver.docker.state import STATES
from graphdriver.files.runtime_directory import file_name

SPECS = Path("/etc/docker/plugins")


def socket_in(folder: str | os.PathLike[str]) -> str:
    """Return a socket's path in a directory, with a name that no other test uses.

    The spec file of the plugin has the socket's name, and must belong to no other plugin.
    """
    return os.path.join(folder, f"{os.path.basename(folder)}.sock")


def state_of_socket(path: str) -> Path:
    """Return the state directory of a plugin that listens on a socket."""
    directory, file = os.path.split(path)
    return Path(STATES, file[:-5] if directory == PLUGIN_SOCKETS else file_name(path))


def forget(socket: str) -> None:
    """Remove what a plugin left that was killed, and what is kept for one that is started again.

    Args:
        socket: where it listened, or would have; its file's name is the plugin's.
    """
    name = os.path.basename(socket).removesuffix(".sock")
    for suffix in ("spec", "json"):
        (SPECS / f"{name}.{suffix}").unlink(missing_ok=True)
    for state in (state_of_socket(socket), Path(STATES, f"name={name}")):
        shutil.rmtree(state, ignore_errors=True)
