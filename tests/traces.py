"""What leads to a plugin, and what one is remembered by, outside of a test's own folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SPECS = Path("/etc/docker/plugins")
STATE = Path("/run/graphdriver")


def socket_in(folder: str | os.PathLike[str]) -> str:
    """Return a socket's path in a folder that no other test has.

    The file by which a daemon finds the plugin has the socket's name, and must be nobody else's.
    """
    return os.path.join(folder, f"{os.path.basename(folder)}.sock")


def forget(socket: str) -> None:
    """Remove what a plugin left that was killed, and what is kept for one that is started again.

    Args:
        socket: where it listened, or would have; its file's name is the plugin's.
    """
    name = os.path.basename(socket).removesuffix(".sock")
    for suffix in ("spec", "json"):
        (SPECS / f"{name}.{suffix}").unlink(missing_ok=True)
    for state in (name, socket.strip("/").replace("/", "-")):
        shutil.rmtree(STATE / state, ignore_errors=True)
