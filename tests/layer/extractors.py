"""Other programs that unpack tars, as root and with all that they can keep."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.layer.hostile.ground import opened
from tests.support.trees import recorded
from tests.support.unfiltered_tars import unfiltered

FACTS = ("metadata", "xattrs", "content", "link")
METADATA = ("mode", "uid", "gid", "device", "time")


def gnu_tar(data: bytes, folder: Path) -> None:
    _run(["tar", "-xpf", "-", "--numeric-owner", "--xattrs", "--xattrs-include=*"], data, folder)


def bsdtar(data: bytes, folder: Path) -> None:
    _run(["bsdtar", "-xpf", "-", "--numeric-owner", "--xattrs"], data, folder)


def python(data: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        unfiltered(archive).extractall(folder, numeric_owner=True)


EXTRACTORS: dict[str, Callable[[bytes, Path], None]] = {
    "tar": gnu_tar,
    "bsdtar": bsdtar,
    "tarfile": python,
}

MAKERS = {
    "tar --format=posix": ["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "-cf", "-"],
    "tar --format=gnu --sparse": ["tar", "--format=gnu", "--sparse", "-cf", "-"],
    "bsdtar --format=pax": ["bsdtar", "--format=pax", "--xattrs", "-cf", "-"],
    "bsdtar --format=gnutar": ["bsdtar", "--format=gnutar", "-cf", "-"],
}
"""How they make tars."""


def made_by(maker: str, tree: Path) -> bytes:
    """Return a tree's tar as a program makes it."""
    return _run([*MAKERS[maker], "."], b"", tree)


def facts(tree: Path, named: set[bytes]) -> dict[tuple[bytes, str], object]:
    """Return all that a layer must keep of a tree, by name and kind of fact.

    Args:
        tree: its root.
        named: what the tar has entries for; folders that were made on the way have any time.
    """
    found: dict[tuple[bytes, str], object] = {}
    with opened(tree) as root:
        for name, known in recorded(root).items():
            assert isinstance(known, tuple)
            for fact, value in zip(FACTS, known, strict=False):
                if fact == "metadata":
                    found |= {(name, one): each for one, each in zip(METADATA, value, strict=True)}
                else:
                    found[name, fact] = value
            if name not in named:
                del found[name, "time"]
    return found


def _run(command: list[str], data: bytes, folder: Path) -> bytes:
    """Run a program in a folder; what it complains of is seen by what it makes."""
    done = subprocess.run(
        command,
        input=data,
        capture_output=True,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return done.stdout
