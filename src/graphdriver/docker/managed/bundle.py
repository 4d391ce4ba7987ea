"""Makes the directory that ``docker plugin create`` takes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Final

from graphdriver.docker.address.listeners import PLUGIN_SOCKETS
from graphdriver.docker.managed.config import PROPAGATED, SOCKET, plugin_config
from graphdriver.docker.managed.distributions import WHERE, add_distribution, needed
from graphdriver.docker.managed.rootfs import Rootfs
from graphdriver.errors import MalformedRequestError
from graphdriver.files.directories import new_directory

_NAME: Final = re.compile(
    r"(?:[a-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
)
"""A reference as Docker takes it, with its tag (distribution/reference)."""

_MOUNTED: Final = ("/dev", "/proc", "/sys", "/tmp", PLUGIN_SOCKETS, PROPAGATED)  # noqa: S108
"""Directories that the container runtime or the plugin mounts something at, or writes to."""


def expect_reference(name: str) -> str:
    """Check the name of a managed plugin: ``ORG/NAME:TAG``.

    Raises:
        MalformedRequestError: Docker takes no such name.
    """
    if not _NAME.fullmatch(name):
        raise MalformedRequestError(
            f"{name!r} is not the name of a managed plugin", hint="write ORG/NAME:TAG in lower case"
        )
    return name


def make_bundle(driver: str, distribution: str, capabilities: Iterable[str], output: str) -> int:
    """Make a directory with ``config.json`` and ``rootfs/``.

    Args:
        driver: the driver's name, as ``graphdriver serve`` takes it.
        distribution: the Python distribution that it is in. If that has an extra of the driver's name,
            what the extra requires comes along, as far as it is installed.
        capabilities: what its process needs.
        output: the directory to make; it does not exist, or is empty.

    Returns:
        The size of the files, in bytes.

    Raises:
        UnsupportedError: the directory is not empty; something that is needed is not installed.
    """
    with new_directory(output) as made:
        root = os.path.join(made, "rootfs")
        os.mkdir(root, 0o755)
        interpreter = _fill(Rootfs(root), distribution, driver)
        command = (
            *(interpreter, "-P", "-s", "-m", "graphdriver", "serve", driver),
            *("--socket", f"{PLUGIN_SOCKETS}/{SOCKET}", "--log-format", "json"),
        )
        environment = {"PYTHONPATH": WHERE, "LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin"}
        config = plugin_config(driver, command, environment, capabilities)
        with open(os.path.join(made, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
            file.write("\n")
        return _size(made)


def _fill(rootfs: Rootfs, distribution: str, driver: str) -> str:
    """Copy all that a driver needs; return the interpreter's path."""
    rootfs.make_directories(_MOUNTED)
    interpreter = rootfs.add_interpreter()
    for found in needed(["graphdriver", distribution], extra=driver):
        add_distribution(rootfs, found)
    rootfs.add_libraries()
    rootfs.compile()
    return interpreter


def _size(directory: str) -> int:
    with os.scandir(directory) as entries:
        return sum(
            _size(one.path)
            if one.is_dir(follow_symlinks=False)
            else one.stat(follow_symlinks=False).st_size
            for one in entries
        )
