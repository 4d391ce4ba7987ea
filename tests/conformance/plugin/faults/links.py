"""Faults in links."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from graphdriver.driver import mounted
from tests.conformance.plugin.faults.fault import caught_by
from tests.conformance.plugin.faults.tampering import Entry, Refuses, TarGoes, TreeSpoiled, every


def part(path: Path, mode: int | None = None) -> None:
    """Make a file of its own of a name."""
    content = path.read_bytes()
    found = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.chown(path, found.st_uid, found.st_gid)
    path.chmod(found.st_mode if mode is None else mode)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@caught_by("links/names-of-one-file")
class HardLinksAreCopies(TreeSpoiled):
    """Each name of a file is a file of its own."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_file() and path.lstat().st_nlink > 1:
                part(path)


@caught_by("links/to-a-file-of-the-layer-below")
class LinksBelowAreNewFiles(TreeSpoiled):
    """A hard link to a file of the layer below is a file of the default mode."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name, entry in names.items():
            if entry.islnk() and entry.linkname not in names:
                part(root / name, 0o644)


@caught_by("links/one-file-with-the-layer-below")
class LinksBelowAreCopies(TreeSpoiled):
    """A hard link to a file of the layer below is a copy."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name, entry in names.items():
            if entry.islnk() and entry.linkname not in names:
                part(root / name)


@caught_by("links/made-by-a-container")
class DiffsHaveNoHardLinks(TarGoes):
    """A Diff leaves the second names of files out."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.islnk() else entry


@caught_by("links/absolute-targets")
class AbsoluteTargetsAreRefused(Refuses):
    """A hard link to an absolute path is refused."""

    def is_refused(self, entry: Entry) -> bool:
        return entry.type == b"1" and entry.link.startswith("/")


@caught_by("links/targets-through-symbolic-links")
class TargetsMustBeEntries(Refuses):
    """A hard link to what is no entry of the tar is refused."""

    def is_refused(self, entry: Entry) -> bool:
        return entry.type == b"1" and entry.link not in self.seen


@caught_by("links/entries-through-symbolic-links")
class LinkedDirectoriesAreRefused(Refuses):
    """An entry whose directory is a symbolic link is refused."""

    def is_refused(self, entry: Entry) -> bool:
        if not self.parent:
            return False
        with mounted(self.whole, self.parent) as below:
            return os.path.islink(os.path.join(below, os.path.dirname(entry.name)))


@caught_by("links/targets-that-come-later")
class TargetsMustComeFirst(Refuses):
    """A hard link whose target has not come is refused."""

    def is_refused(self, entry: Entry) -> bool:
        return entry.type == b"1" and not self.parent and entry.link not in self.seen


@caught_by("links/replacing-one-name")
class FilesAreWrittenOver(TreeSpoiled):
    """A file that comes anew is written over the old one, which has other names."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        if not parent:
            return
        with mounted(self.whole, parent) as below:
            for name, entry in names.items():
                old = Path(below, name)
                if entry.isreg() and old.is_file() and not old.is_symlink():
                    for other in Path(below).rglob("*"):
                        if other != old and other.is_file() and other.samefile(old):
                            shutil.copy(root / name, root / other.relative_to(below))


@caught_by("links/symbolic-links-are-kept")
class LinksAreMadeSafe(TreeSpoiled):
    """Symbolic links that climb are cut short."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_symlink() and os.readlink(path).startswith("../../"):
                path.unlink()
                path.symlink_to("etc")


@caught_by("links/file-over-a-symbolic-link")
class LinksAreWrittenThrough(TreeSpoiled):
    """A file that comes where a symbolic link is is written where that leads."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        if not parent:
            return
        with mounted(self.whole, parent) as below:
            for name, entry in names.items():
                if entry.isreg() and Path(below, name).is_symlink():
                    text = os.readlink(Path(below, name))
                    os.replace(root / name, root / text)
                    (root / name).symlink_to(text)
