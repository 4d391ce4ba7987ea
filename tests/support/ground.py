"""The needs of the end-to-end tests: root, a dockerd, a client of its version, room on a fast disk.

What is missing makes a test skip with the reason on a developer's machine. With ``CI=true`` in the
environment it fails instead: a skip would not be noticed there.

Directories are made on tmpfs if it is large enough, since a vfs copies every layer whole and the
disk is not what these tests are about. Their names are short: the path of a unix socket has at most
107 bytes, and a daemon adds its own to what it is given.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOM_NEEDED = 6 * 1024**3
"""Bytes. Two daemons with a Debian image and some containers on a driver that copies layers whole."""

ELSEWHERE = os.environ.get("GRAPHDRIVER_ENGINES", "")
"""The root of another Debian, with the engines to run instead of this one's (`tests/on_debian`)."""

_ENTER = Path(__file__).parents[1] / "enter_debian"
_SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")


@dataclass(frozen=True)
class Docker:
    """A daemon and a client that belong together."""

    daemon: tuple[str, ...]
    client: tuple[str, ...]
    version: str


def missing(what: str) -> NoReturn:
    """Skip the test because ``what`` is missing; fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"required here, since CI=true: {what}", pytrace=False)
    pytest.skip(what)


def require(condition: object, what: str) -> None:
    """Go on only if ``condition`` holds."""
    if not condition:
        missing(what)


def tool(name: str) -> str:
    """Return the path of a program that a test needs."""
    path = shutil.which(name, path=_SEARCH_PATH)
    require(path, f"{name} is not installed")
    return str(path)


def engine(name: str) -> tuple[str, ...]:
    """Return how a container engine's program is run."""
    return (str(_ENTER), ELSEWHERE, name) if ELSEWHERE else (tool(name),)


def find_docker() -> Docker:
    """Return dockerd and the client that came with it."""
    require(os.geteuid() == 0, "a dockerd needs root")
    daemon = engine("dockerd")
    version = _version(daemon)
    require(
        int(version.split(".")[0]) < 28,
        f"dockerd {version} knows no graph driver plugins any more; 20.10 to 27 do",
    )
    if ELSEWHERE:
        return Docker(daemon, engine("docker"), version)
    for folder in _SEARCH_PATH.split(":"):
        client = os.path.join(folder, "docker")
        if os.access(client, os.X_OK) and _version((client,)) == version:
            return Docker(daemon, (client,), version)
    missing(f"there is no docker client of dockerd's version, {version}")


def _version(program: tuple[str, ...]) -> str:
    said = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+\.\d+\.\d+)", said.stdout)
    assert found, f"{program} --version said {said.stdout!r}"
    return found[1]


def new_folder(base: str = "") -> Path:
    """Make a directory with a short name for all files of a daemon.

    Args:
        base: where; on a quick filesystem with room unless given.
    """
    for each in (base,) if base else ("/dev/shm", "/var/tmp"):
        if os.path.isdir(each) and shutil.disk_usage(each).free > ROOM_NEEDED:
            folder = Path(tempfile.mkdtemp(prefix="gd", dir=each))
            folder.chmod(0o711)  # the root of a remapped daemon's containers goes through it
            return folder
    missing(f"no {ROOM_NEEDED >> 30} GiB of room in {base or '/dev/shm or /var/tmp'}")
