"""Faults in Changes and in sizes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

from graphdriver.driver import Change, ChangeKind, ReadStream, mounted
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.tampering import KnowsParents, whole


class _Compares(Broken):
    """Lists less, or more: `is_seen` says of a modified path whether it is listed, `more` what else."""

    def is_seen(self, above: os.stat_result, below: os.stat_result) -> bool:
        return True

    def more(self, above: os.stat_result, below: os.stat_result) -> bool:
        return False

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        listed = list(super().changes(id, parent))
        if not parent:
            return listed
        with mounted(self.whole, id) as root, mounted(self.whole, parent) as lower:
            both = {}
            for path in [Path(root), *Path(root).rglob("*")]:
                name = path.relative_to(root)
                if os.path.lexists(Path(lower, name)):
                    told = "/" + str(name).lstrip(".")
                    both[told] = (path.lstat(), Path(lower, name).lstat())
            kept = [
                change
                for change in listed
                if change.kind is not ChangeKind.MODIFIED or self.is_seen(*both[change.path])
            ]
            known = {change.path for change in listed}
            for path_told, (above, below) in both.items():
                if path_told not in known and self.more(above, below):
                    kept.append(Change(path_told, ChangeKind.MODIFIED))
        return kept


@caught_by("changes/all-kinds")
class DirectoriesOfChangesAreNotListed(_Compares):
    """A directory in which something changed is not listed."""

    def is_seen(self, above: os.stat_result, below: os.stat_result) -> bool:
        return not (stat.S_ISDIR(above.st_mode) and stat.S_ISDIR(below.st_mode))


@caught_by("changes/against-nothing")
class RootIsListed(Broken):
    """Against nothing the root directory is added."""

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        root = [] if parent else [Change("/", ChangeKind.ADDED)]
        return [*root, *super().changes(id, parent)]


@caught_by("changes/against-any-ancestor")
class ChangesAreAgainstTheParent(KnowsParents):
    """Changes against any layer are those against the direct parent."""

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        return super().changes(id, self.parents[id] if parent else "")


@caught_by("changes/deleted-directory-is-one-change")
class DeletedDirectoriesAreListedWhole(Broken):
    """All that was in a deleted directory is listed."""

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        listed = list(super().changes(id, parent))
        if parent:
            with mounted(self.whole, parent) as lower:
                for change in list(listed):
                    below = Path(lower, change.path[1:])
                    if change.kind is ChangeKind.DELETED and below.is_dir():
                        for path in below.iterdir():
                            listed.append(Change(f"{change.path}/{path.name}", change.kind))
        return listed


@caught_by("changes/copied-up-files-are-unchanged")
class CopiedUpIsModified(_Compares):
    """What was touched, and is the same as below, is listed."""

    def more(self, above: os.stat_result, below: os.stat_result) -> bool:
        return above.st_ctime_ns - below.st_ctime_ns > 0 and above.st_uid == 1000


@caught_by("changes/directories-by-mode-and-owner")
class DirectoriesTimesCount(_Compares):
    """A directory is modified by its time."""

    def more(self, above: os.stat_result, below: os.stat_result) -> bool:
        return stat.S_ISDIR(above.st_mode) and above.st_mtime_ns != below.st_mtime_ns


@caught_by("changes/files-by-all-attributes")
class ModesDoNotCount(_Compares):
    """A file is modified by size and time alone."""

    def is_seen(self, above: os.stat_result, below: os.stat_result) -> bool:
        return stat.S_ISDIR(above.st_mode) or (above.st_size, above.st_mtime_ns) != (
            below.st_size,
            below.st_mtime_ns,
        )


@caught_by("changes/same-size-and-time")
class ContentDoesNotCount(_Compares):
    """A file is modified by what stat(2) tells."""

    def is_seen(self, above: os.stat_result, below: os.stat_result) -> bool:
        facts = [(one.st_mode, one.st_size, one.st_mtime_ns, one.st_uid) for one in (above, below)]
        return stat.S_ISDIR(above.st_mode) or facts[0] != facts[1]


@caught_by("changes/times-without-nanoseconds")
class EveryNanosecondCounts(_Compares):
    """Two times are compared to the nanosecond, though one has none."""

    def more(self, above: os.stat_result, below: os.stat_result) -> bool:
        return stat.S_ISREG(above.st_mode) and above.st_mtime_ns != below.st_mtime_ns


@caught_by("changes/sorted-by-name")
class ChangesComeBackwards(Broken):
    """Changes come in no order."""

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        return list(reversed(super().changes(id, parent)))


@caught_by("sizes/size-of-an-applied-tar")
class SizeIsTheTars(Broken):
    """ApplyDiff answers the length of the tar."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = whole(archive)
        super().apply_diff(id, parent, io.BytesIO(data))
        return len(data)


@caught_by("sizes/size-of-an-applied-diff")
class SizesAreRoundedUp(Broken):
    """ApplyDiff answers whole blocks."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = whole(archive)
        super().apply_diff(id, parent, io.BytesIO(data))
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
            return sum(entry.size + -entry.size % 512 for entry in tar if entry.isreg())


@caught_by("sizes/size-of-changes")
class DeletionsTakeSpace(Broken):
    """DiffSize counts what was deleted."""

    def diff_size(self, id: str, parent: str) -> int:
        size = super().diff_size(id, parent)
        if parent:
            with mounted(self.whole, parent) as lower:
                for change in self.changes(id, parent):
                    if change.kind is ChangeKind.DELETED:
                        size += os.lstat(os.path.join(lower, change.path[1:])).st_size
        return size


@caught_by("sizes/hard-links-count-once")
class EveryNameTakesSpace(Broken):
    """Against nothing, DiffSize counts a file for each of its names."""

    def diff_size(self, id: str, parent: str) -> int:
        if parent:
            return super().diff_size(id, parent)
        with mounted(self.whole, id) as root:
            return sum(one.stat().st_size for one in Path(root).rglob("*") if one.is_file())


@caught_by("sizes/symbolic-links-count-their-target")
class LinksTakeNoSpace(Broken):
    """DiffSize counts no symbolic links."""

    def diff_size(self, id: str, parent: str) -> int:
        with mounted(self.whole, id) as root:
            links = [one for one in Path(root).rglob("*") if one.is_symlink()]
            return super().diff_size(id, parent) - sum(one.lstat().st_size for one in links)
