"""The tars that the benchmarks send."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path


def small_files(path: Path, count: int, size: int) -> Path:
    """Make a tar of small files, a hundred in a directory."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(count):
            if number % 100 == 0:
                directory = tarfile.TarInfo(f"directory{number // 100}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(directory)
            entry = tarfile.TarInfo(f"directory{number // 100}/file{number % 100}")
            entry.size, entry.mtime, entry.mode = size, 1_700_000_000, 0o644
            tar.addfile(entry, io.BytesIO(b"x" * size))
    return path


def mixed_files(path: Path, count: int, average: int) -> Path:
    """Make a tar of files from empty to twice an average size, a hundred in a directory."""
    content = os.urandom(2 * average)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(count):
            if number % 100 == 0:
                directory = tarfile.TarInfo(f"mixed{number // 100}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(directory)
            entry = tarfile.TarInfo(f"mixed{number // 100}/file{number % 100}")
            entry.size, entry.mode = number * 7919 % (2 * average), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return path


def big_file(path: Path, size: int) -> Path:
    """Make a tar of one file without holes."""
    piece = os.urandom(1 << 20)
    with open(path, "wb") as file:
        entry = tarfile.TarInfo("big")
        entry.size = size
        file.write(entry.tobuf(tarfile.PAX_FORMAT))
        for _ in range(size >> 20):
            file.write(piece)
        file.write(bytes(1024))
    return path


def whiteouts(path: Path, count: int) -> Path:
    """Make a tar that deletes what `small_files` made."""
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            tar.addfile(tarfile.TarInfo(f"directory{number // 100}/.wh.file{number % 100}"))
    return path


def chain(directory: Path, count: int) -> list[Path]:
    """Make the tars of layers with a directory and a file each."""
    paths = [directory / f"layer{number}.tar" for number in range(count)]
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as tar:
            entry = tarfile.TarInfo(f"layer{number}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
            entry = tarfile.TarInfo(f"layer{number}/file")
            entry.size, entry.mode = 10, 0o644
            tar.addfile(entry, io.BytesIO(b"%010d" % number))
    return paths
