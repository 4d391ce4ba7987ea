"""The mounting of a snapshotter's mounts, after a check of each directory in them.

A bind mount is not mounted: its source is opened like a layer's directory (`Homes.opened`). An overlay
is mounted from descriptors. A FUSE helper gets paths. Only the known helper is run: a snapshotter that
names ``fuse3.PROGRAM`` makes containerd run that program as root.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.kit.homes import Homes
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.linux.mount import MS_RDONLY, mount, unmount

_HELPED: Final = "fuse3.fuse-overlayfs"
_KNOWN: Final = ("bind", "overlay", _HELPED)
_PATHS: Final = ("lowerdir", "upperdir", "workdir")


@contextlib.contextmanager
def shown(
    mounts: Sequence[pb.Mount], homes: Homes, place: Path, *, is_new: bool = False
) -> Iterator[Path]:
    """Give the root of some mounts for the length of a ``with`` block.

    Args:
        mounts: the mounts in a response; the last one is on top.
        homes: the accepted directories.
        place: an absolute path of the kit, at which filesystems are mounted.
        is_new: it is a new snapshot without a parent, and so must be empty.

    Raises:
        Mismatch: a mount names a directory that is no snapshot's; nothing was mounted, read or written.
        OSError: the mount failed; the text is the kernel's, or the program's.
    """
    expect("whether a mount exists", bool(mounts), True)
    for one in mounts:
        if one.type not in _KNOWN:
            raise Mismatch("the type of a mount", one.type, f"one of {', '.join(_KNOWN)}")
    last = mounts[-1]
    is_read = "ro" in last.options
    if last.type == "bind":
        what = "the source of a bind mount"
        with homes.opened(what, last.source, is_new=is_new, is_read=is_read) as root:
            yield root
        return
    place.mkdir(exist_ok=True)
    with contextlib.ExitStack() as held:
        if last.type == "overlay":
            data = ",".join(_of_descriptors(last.options, homes, held))
            mount("overlay", str(place), "overlay", MS_RDONLY if is_read else 0, data)
        else:
            _help(last, homes, place)
        held.callback(unmount, str(place))
        root = held.enter_context(homes.copied(os.open(place, os.O_PATH), is_read=is_read))
        if is_new:
            expect("content of a new snapshot", sorted(os.listdir(root)), [])
        yield root


def _of_descriptors(
    options: Sequence[str], homes: Homes, held: contextlib.ExitStack
) -> Iterator[str]:
    """Yield an overlay's options with open directories for the paths in them."""
    for option in options:
        key, _, value = option.partition("=")
        if key in _PATHS:
            names = []
            for path in value.split(":") if key == "lowerdir" else [value]:
                fd = homes.open(f"{key} of an overlay mount", path)
                held.callback(os.close, fd)
                names.append(f"/proc/self/fd/{fd}")
            yield f"{key}={':'.join(names)}"
        elif "/" in option:
            raise Mismatch("an option of an overlay mount", option, "one without a path")
        elif option not in ("ro", "rw"):
            yield option


def _help(one: pb.Mount, homes: Homes, place: Path) -> None:
    """Have the program mount itself, as containerd does."""
    for option in one.options:
        key, _, value = option.partition("=")
        if key in _PATHS:
            for path in value.split(":") if key == "lowerdir" else [value]:
                homes.check(f"{key} of a {one.type} mount", path)
        elif "/" in option:
            raise Mismatch(f"an option of a {one.type} mount", option, "one without a path")
    helper, _, program = one.type.partition(".")
    done = subprocess.run(
        [f"mount.{helper}", program, place, "-o", ",".join(one.options), "-t", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )
    if done.returncode:
        raise OSError(f"mount.{helper} -t {program}: {done.stderr.strip()}")
