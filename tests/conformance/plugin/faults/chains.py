"""Faults in layers upon layers, and in what was written to them."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from graphdriver.driver import Change, ChangeKind, ClosableStream, IDMap, ReadStream, mounted
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.tampering import KnowsParents, TarGoes, TreeSpoiled


@caught_by("chains/child-shows-its-parent")
class ContainersAreEmpty(Broken):
    """CreateReadWrite makes a layer upon nothing."""

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create_read_write(id, "", mount_label, storage_opt)


@caught_by("chains/child-has-its-parents-root-directory")
class RootDirectoriesAreNew(Broken):
    """A child's root directory is one as every first layer's."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        with mounted(self.whole, id) as root:
            os.chown(root, 0, 0)
            os.chmod(root, 0o755)


@caught_by("chains/siblings-are-apart")
class FilesAreShared(Broken):
    """A child's files are hard links to its parent's."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        if parent:
            with mounted(self.whole, id) as root, mounted(self.whole, parent) as below:
                for path in Path(below).iterdir():
                    if path.is_file():
                        own = Path(root, path.name)
                        own.unlink()
                        os.link(path, own)


class _Shallow(KnowsParents):
    most = 0

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        if self.depth(id) > self.most:
            super().remove(id)
            raise GraphDriverError("too many layers")


@caught_by("chains/ten-written-layers")
class TenLayersAreTooMany(_Shallow):
    """The tenth layer is refused."""

    most = 9


@caught_by("chains/fifty-layers")
class FiftyLayersAreTooMany(_Shallow):
    """The fiftieth layer is refused."""

    most = 49


@caught_by("chains/hundred-and-twenty-five-layers")
class NoContainerUponAHundredAndTwentyFive(_Shallow):
    """The mount options of a hundred and twenty-five layers are longer than a page."""

    most = 124


@caught_by("chains/two-hundred-layers")
class TwoHundredLayersAreTooMany(_Shallow):
    """The two hundredth layer is refused."""

    most = 199


@caught_by("chains/reading-through-a-hundred-layers")
class LowestLayersAreCutOff(KnowsParents):
    """Of a hundred layers the lowest is not mounted."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        size = super().apply_diff(id, parent, archive)
        if self.depth(id) > 100:
            with mounted(self.whole, id) as root:
                shutil.rmtree(Path(root, "etc"), ignore_errors=True)
        return size


@caught_by("written/either-kind-can-be-written")
class ImageLayersHaveNoSize(Broken):
    """DiffSize of a layer that was made with Create, and not applied, is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._made: set[str] = set()

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self._made.add(id)
        super().create(id, parent, mount_label, storage_opt)

    def diff_size(self, id: str, parent: str) -> int:
        return 0 if id in self._made else super().diff_size(id, parent)


@caught_by("written/stays-when-put")
class LaterGetsAreCopies(Broken):
    """Every Get but the first shows a copy, and what is written there is lost."""

    def __init__(self) -> None:
        super().__init__()
        self._got: set[str] = set()

    def get(self, id: str, mount_label: str) -> str:
        path = super().get(id, mount_label)
        if id not in self._got:
            self._got.add(id)
            return path
        copy = os.path.join(tempfile.mkdtemp(dir=self._above), "copy")
        devices = shutil.ignore_patterns("devices")
        return shutil.copytree(path, copy, symlinks=True, ignore=devices)

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self._above = os.path.dirname(home)
        super().init(home, options, uid_maps, gid_maps)


@caught_by("written/steps-of-a-build")
class DiffsHaveNoLinks(TarGoes):
    """A Diff leaves symbolic links out."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.issym() else entry


@caught_by("written/written-again-after-a-diff")
class SizesAreRemembered(Broken):
    """DiffSize is counted once."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[tuple[str, str], int] = {}

    def diff_size(self, id: str, parent: str) -> int:
        if (id, parent) not in self._sizes:
            self._sizes[id, parent] = super().diff_size(id, parent)
        return self._sizes[id, parent]


@caught_by("written/diff-of-a-mounted-layer")
class GotLayersHaveNoDiff(Broken):
    """Diff of a layer that is got is refused."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[str] = []

    def get(self, id: str, mount_label: str) -> str:
        self._held.append(id)
        return super().get(id, mount_label)

    def put(self, id: str) -> None:
        self._held.remove(id)
        super().put(id)

    def diff(self, id: str, parent: str) -> ClosableStream:
        if id in self._held:
            raise GraphDriverError("device or resource busy")
        return super().diff(id, parent)


@caught_by("written/files-of-below-can-be-renamed")
class ChangesForgetDeletions(Broken):
    """Changes lists nothing that was deleted."""

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        listed = super().changes(id, parent)
        return [change for change in listed if change.kind is not ChangeKind.DELETED]


@caught_by("written/on-applied-layers")
class AppliedParentsAreWrittenTo(Broken):
    """A layer upon an applied one shows that one's own directory."""

    def __init__(self) -> None:
        super().__init__()
        self._applied: set[str] = set()
        self._shows: dict[str, str] = {}

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        self._applied.add(id)
        return super().apply_diff(id, parent, archive)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        if parent in self._applied:
            self._shows[id] = parent

    def get(self, id: str, mount_label: str) -> str:
        return super().get(self._shows.get(id, id), mount_label)


@caught_by("dialects/missing-parents-are-created")
class MissingParentsAreClosed(TreeSpoiled):
    """Directories that have no entry are 0700."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in root.rglob("*"):
            if path.is_dir() and str(path.relative_to(root)) not in names:
                path.chmod(0o700)
