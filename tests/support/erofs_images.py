"""Writing images of layers, mounting them, and reading what they show."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from graphdriver.layer.erofs.index import HEAD, Index, Place, copied_start, write_index
from graphdriver.linux import loop, xattr
from graphdriver.linux.mount import mount_with
from tests.support.erofs_layers import Layer, Shown, settled

UUID = bytes(range(16))


def write_image(layer: Layer, place: Place, directory: Path) -> Index:
    """Write a layer's image as ``image``, and its tar as ``tar`` if that is in another file."""
    fd = os.open(directory / "image", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if place is Place.BEHIND_TAR:
            os.pwrite(fd, layer.tar, HEAD)
        else:
            head = bytes(HEAD if place is Place.BEHIND_HEAD else 0)
            (directory / "tar").write_bytes(head + layer.tar)
        os.pwrite(fd, layer.copied, copied_start(place, len(layer.tar)))
        done = write_index(
            layer.root,
            fd,
            place,
            tar_size=len(layer.tar),
            copied_size=len(layer.copied),
            uuid=UUID,
        )
        assert done.size == os.fstat(fd).st_size
        return done
    finally:
        os.close(fd)


@contextlib.contextmanager
def mounted(directory: Path, place: Place, *, by_loop: bool = True) -> Iterator[int]:
    """Mount the image in a directory, by loop devices or from the files; yield the open root."""
    target = directory / "mounted"
    target.mkdir(exist_ok=True)
    names = {"source": "image"} | ({} if place is Place.BEHIND_TAR else {"device": "tar"})
    with contextlib.ExitStack() as opened:
        settings: list[tuple[str, str | None]] = [("ro", None)]
        for setting, name in names.items():
            fd = os.open(directory / name, os.O_RDONLY)
            opened.callback(os.close, fd)
            path = f"/proc/self/fd/{fd}"
            settings.append((setting, opened.enter_context(loop.attached(fd)) if by_loop else path))
        above = os.open(target, os.O_PATH)
        opened.callback(os.close, above)
        mount_with("erofs", settings, 0, above)
        opened.callback(subprocess.run, ["umount", str(target)], check=True)
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, root)
        yield root


def shown(root: int) -> Shown:
    """Return what a mounted image shows, in the form of `Layer.shown`."""
    found: Shown = {}
    links: dict[bytes, int] = {}
    names: dict[int, list[bytes]] = {}
    left = [b""]
    while left:
        path = left.pop()
        with _opened(b"." + path, root) as fd:
            entries = sorted(map(os.fsencode, os.listdir(fd)))
            status = os.fstat(fd)
            found[path] = (*_metadata(status, xattr.get_all(fd)), entries, status.st_nlink)
            for name in entries:
                below = b"%b/%b" % (path, name)
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    left.append(below)
                    continue
                names.setdefault(status.st_ino, []).append(below)
                metadata = _metadata(status, xattr.get_all_at(fd, name))
                found[below] = (*metadata, _content(fd, name, status), names[status.st_ino])
                links[below] = status.st_nlink
    found = {path: settled(*facts) for path, facts in found.items()}
    assert {path: found[path][-2] for path in links} == links
    return found


@contextlib.contextmanager
def _opened(path: bytes, root: int) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        yield fd
    finally:
        os.close(fd)


def _metadata(status: os.stat_result, xattrs: dict[bytes, bytes]) -> tuple[object, ...]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs


def _content(above: int, name: bytes, status: os.stat_result) -> object:
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(name, dir_fd=above)
        assert len(target) == status.st_size
        return target
    if not stat.S_ISREG(status.st_mode):
        return status.st_rdev
    with open(os.open(name, os.O_RDONLY, dir_fd=above), "rb") as file:
        content = file.read()
    assert len(content) == status.st_size
    return content
