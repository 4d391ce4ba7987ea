"""Mounting with other owners what a snapshotter has answered, as containerd 2.x does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.linux.libc import libc, raise_errno
from graphdriver.linux.mount import idmapped_copy
from graphdriver.linux.namespaces import new_user_namespace
from tests.support.mounting import mount

_SYS_MOVE_MOUNT = 429
_FROM_EMPTY_PATH = 0x4


@contextlib.contextmanager
def shifted(told: pb.Mount, place: Path) -> Iterator[Path]:
    """Mount it for the length of a ``with`` block."""
    options = dict(option.partition("=")[::2] for option in told.options)
    maps = [options.pop(name, "").replace(":", " ") for name in ("uidmap", "gidmap")]
    with contextlib.ExitStack() as held:
        place.mkdir()
        held.callback(place.rmdir)
        if told.type == "bind":
            held.enter_context(_idmapped(told.source, place, maps))
        else:
            if told.type == "overlay":
                lowers = options["lowerdir"].split(":")
                for number, lower in enumerate(lowers):
                    below = place.with_name(f"{place.name}-{number}")
                    below.mkdir()
                    held.callback(below.rmdir)
                    lowers[number] = str(held.enter_context(_idmapped(lower, below, maps)))
                options["lowerdir"] = ":".join(lowers)
            words = [f"{key}={value}" if value else key for key, value in options.items()]
            mount(told.type, told.source, str(place), ",".join(words))
            held.callback(_unmount, place)
        yield place


@contextlib.contextmanager
def _idmapped(folder: str, place: Path, maps: list[str]) -> Iterator[Path]:
    namespace = new_user_namespace(*maps)
    tree = idmapped_copy(folder, namespace)
    os.close(namespace)
    if libc.syscall(_SYS_MOVE_MOUNT, tree, b"", -1, os.fsencode(place), _FROM_EMPTY_PATH):
        raise_errno(str(place))
    os.close(tree)
    try:
        yield place
    finally:
        _unmount(place)


def _unmount(place: Path) -> None:
    subprocess.run(["umount", str(place)], check=True)
