"""Faults in what a layer's tar deletes."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import caught_by
from tests.conformance.plugin.faults.tampering import (
    Entry,
    KnowsParents,
    TarComes,
    TarGoes,
    TreeSpoiled,
    is_whiteout,
)

OPAQUE = ".wh..wh..opq"


@caught_by("whiteouts/deletes-in-the-layers-below")
class WhiteoutsShow(TreeSpoiled):
    """A whiteout is a file of the layer, too."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name, entry in names.items():
            if is_whiteout(entry) and (root / name).parent.is_dir():
                (root / name).touch()


@caught_by("whiteouts/deletes-a-link-and-not-its-target")
class WhiteoutsDeleteTargets(TreeSpoiled):
    """A whiteout of a symbolic link deletes what it leads to."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        if parent:
            with mounted(self.whole, parent) as below:
                for name in names:
                    link = Path(below, name.replace(".wh.", ""))
                    if link.is_symlink():
                        shutil.rmtree(root / os.readlink(link), ignore_errors=True)


@caught_by("whiteouts/of-nothing")
class WhiteoutsOfNothingAreErrors(TarComes):
    """A whiteout of what is not there is refused."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if ".wh." in entry.name and OPAQUE not in entry.name:
            if not self.parent:
                raise GraphDriverError("no such file or directory")
            with mounted(self.whole, self.parent) as below:
                os.lstat(os.path.join(below, entry.name.replace(".wh.", "")))
        yield entry


@caught_by("whiteouts/keeps-the-layers-own-files")
class WhiteoutsComeLast(TreeSpoiled):
    """Whiteouts are obeyed when all else is done."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name, entry in names.items():
            if is_whiteout(entry):
                target = root / name.replace(".wh.", "")
                if target.is_dir():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)


@caught_by("whiteouts/opaque-directory")
class OpaqueMarksAreForgotten(TarComes):
    """The opaque mark is not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if OPAQUE not in entry.name:
            yield entry


@caught_by("whiteouts/opaque-directory-stays-opaque")
class OpaqueMarksHideForever(KnowsParents, TarComes):
    """What is below an opaque directory is hidden in the layers above too, whatever they bring."""

    def __init__(self) -> None:
        super().__init__()
        self.opaque: set[str] = set()

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        directory = entry.name.rpartition("/")[0]
        if OPAQUE in entry.name:
            self.opaque.add(directory)
        elif directory in self.opaque and self.depth(self.parent) > 1:
            return
        yield entry


@caught_by("whiteouts/opaque-root")
class OpaqueRootsAreForgotten(TarComes):
    """The opaque mark in the root is not read, as overlays have no place for it."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.name != OPAQUE:
            yield entry


@caught_by("whiteouts/directory-deleted-and-created-again")
class OldDirectoriesShineThrough(TarGoes):
    """A Diff has no whiteouts in a directory that it has, too."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if is_whiteout(entry) and "/" in entry.name else entry


@caught_by("whiteouts/diff-has-whiteouts")
class DeletionsAreDevices(TarGoes):
    """A Diff has 0:0 devices for what was deleted, as overlays have."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if is_whiteout(entry):
            entry.name = entry.name.replace(".wh.", "")
            entry.pax_headers = {}
            entry.type = tarfile.CHRTYPE
        return entry


@caught_by("whiteouts/time-is-fixed")
class WhiteoutsTellTheTime(TarGoes):
    """A whiteout in a Diff has the time of now."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if is_whiteout(entry):
            entry.mtime = int(time.time())
        return entry


@caught_by("whiteouts/created-again-above")
class DeletionsAreForever(TarComes):
    """What one layer deleted no other brings again."""

    def __init__(self) -> None:
        super().__init__()
        self._deleted: set[str] = set()

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if ".wh." in entry.name:
            self._deleted.add(entry.name.replace(".wh.", ""))
        elif entry.name.partition("/")[0] in self._deleted:
            return
        yield entry


@caught_by("whiteouts/aufs-own-names-are-left-out")
class AufsNamesShow(TreeSpoiled):
    """AUFS's own names are files like others."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name in names:
            if name.startswith(".wh..wh.") and "/" not in name:
                (root / name).touch()


@caught_by("links/targets-that-aufs-moved-away")
class AufsFilesAreLeftOut(TarComes):
    """What AUFS put aside is left out, and a link to it is an empty file."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type == b"1" and ".wh..wh.plnk" in entry.link:
            yield tars.file(entry.name.encode(), b"")
        elif ".wh..wh.plnk" not in entry.name:
            yield entry
