"""Mounting what a snapshotter has answered, as containerd does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from graphdriver.containerd import _messages_pb2 as pb
from tests.support.filesystems import unmount


def mount(kind: str, source: str, place: str, options: str, cwd: str = "/") -> None:
    """Mount one; the helpers of FUSE (``fuse3.PROGRAM``) are called here, as containerd does.

    Raises:
        OSError: it cannot be mounted; the text is the program's.
    """
    helper, _, program = kind.partition(".")
    words = ["mount", "-t", kind] if not program else [f"mount.{helper}"]
    words += [source, place, "-o", options, *(("-t", program) if program else ())]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PATH": path},
    )
    if done.returncode:
        raise OSError(f"{' '.join(words[:3])} … -o {options[:200]}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(mounts: Iterable[pb.Mount], place: Path) -> Iterator[Path]:
    """Mount what a call has answered for the length of a ``with`` block."""
    place.mkdir(exist_ok=True)
    count = 0
    try:
        for one in mounts:
            options, above = shortened(one)
            mount(one.type, one.source, str(place), options, above)
            count += 1
        yield place
    finally:
        for _ in range(count):
            unmount(place)


def shortened(mount: pb.Mount) -> tuple[str, str]:
    """Return options with lower directories relative to their parent, and that; it fits a page."""
    options = list(mount.options)
    for at, option in enumerate(options):
        if option.startswith("lowerdir="):
            folders = option.removeprefix("lowerdir=").split(":")
            above = os.path.commonpath([os.path.dirname(folder) for folder in folders])
            above = above if len(folders) > 1 else os.path.dirname(above)
            names = (os.path.relpath(folder, above) for folder in folders)
            options[at] = f"lowerdir={':'.join(names)}"
            return ",".join(options), above
    return ",".join(options), "/"
