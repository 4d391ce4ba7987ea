"""Faults in attributes, special files, names and ID maps."""

from __future__ import annotations

import os
import stat
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from graphdriver.conformance.kit.tree import CAPABILITY
from graphdriver.driver import ClosableStream, IDMap, ReadStream, mounted
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.tampering import (
    Entry,
    KnowsParents,
    Refuses,
    TarComes,
    TarGoes,
    TreeSpoiled,
    every,
    is_whiteout,
)

SET_ID = stat.S_ISUID | stat.S_ISGID


@caught_by("special-files/linked-devices-and-fifos")
class LinkedFifosAreCopies(TreeSpoiled):
    """FIFOs of two names become two, as GNU tar has it."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_fifo() and path.stat().st_nlink > 1:
                path.unlink()
                os.mkfifo(path)


@caught_by("attributes/modes")
class OwnersComeLast(TreeSpoiled):
    """Owners are set after modes, so set-ID bits are lost."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_file():
                path.chmod(path.stat().st_mode & ~SET_ID)


@caught_by("attributes/directories-keep-their-mode")
class WritersTakeSetIdBits(KnowsParents):
    """A directory that is written into loses its set-ID bits, as where it is copied up."""

    def put(self, id: str) -> None:
        if self.parents[id]:
            for path in every(Path(self.whole.get(id, ""))):
                if path.is_dir() and os.listdir(path):
                    path.chmod(path.stat().st_mode & ~SET_ID)
            self.whole.put(id)
        super().put(id)


@caught_by("attributes/owners")
class LinksAreRoots(TreeSpoiled):
    """Symbolic links belong to root."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_symlink():
                os.chown(path, 0, 0, follow_symlinks=False)


@caught_by("attributes/capabilities")
class CopiesHaveNoCapabilities(Broken):
    """A child is a copy without extended attributes."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        with mounted(self.whole, id) as root:
            for path in every(Path(root)):
                for name in os.listxattr(path, follow_symlinks=False):
                    os.removexattr(path, name, follow_symlinks=False)


@caught_by("attributes/capability-set-by-a-container")
class DiffsHaveNoCapabilities(TarGoes):
    """A Diff says nothing of capabilities."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        said = entry.pax_headers.items()
        entry.pax_headers = {name: value for name, value in said if "capability" not in name}
        return entry


@caught_by("attributes/any-bytes-in-attributes")
class AttributesEndAtZero(TreeSpoiled):
    """An attribute's value ends at its first zero byte."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if not path.is_symlink():
                for name in os.listxattr(path):
                    os.setxattr(path, name, os.getxattr(path, name).partition(b"\0")[0])


@caught_by("attributes/directory-over-a-directory")
class OldAttributesStay(TreeSpoiled):
    """A directory over a directory keeps that one's attributes besides its own."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        if not parent:
            return
        with mounted(self.whole, parent) as below:
            for name in names:
                if Path(below, name).is_dir():
                    for attribute in os.listxattr(Path(below, name)):
                        value = os.getxattr(Path(below, name), attribute)
                        os.setxattr(root / name, attribute, value)


@caught_by("attributes/times-to-the-nanosecond")
class TimesAreWholeSeconds(TreeSpoiled):
    """Times are cut to seconds."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            seconds = path.lstat().st_mtime_ns // 10**9
            os.utime(path, (seconds, seconds), follow_symlinks=False)


@caught_by("attributes/directories-have-the-time-of-their-entry")
class DirectoriesTimesAreOfNow(TreeSpoiled):
    """A directory's time is set before it is filled."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_dir() and os.listdir(path):
                os.utime(path, (time.time(), time.time()))


@caught_by("attributes/directory-without-an-entry-keeps-its-time")
class FilledDirectoriesAreNew(TreeSpoiled):
    """A directory without an entry has the time at which something came into it."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name in names:
            if os.path.dirname(name) not in names:
                os.utime((root / name).parent, (time.time(), time.time()))


@caught_by("special-files/devices-and-fifos")
class MinorsAreBytes(TreeSpoiled):
    """Minor numbers of devices end at 255."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for name, entry in names.items():
            if entry.isblk():
                (root / name).unlink()
                device = os.makedev(entry.devmajor, entry.devminor % 256)
                os.mknod(root / name, stat.S_IFBLK | entry.mode, device)


@caught_by("special-files/sockets-are-left-out")
class SocketsAreErrors(Broken):
    """Diff of a layer with a socket in it is refused."""

    def diff(self, id: str, parent: str) -> ClosableStream:
        with mounted(self.whole, id) as root:
            if any(path.is_socket() for path in Path(root).rglob("*")):
                raise GraphDriverError("sockets not supported")
        return super().diff(id, parent)


@caught_by("special-files/names-of-any-bytes")
class NamesAreText(TreeSpoiled):
    """Bytes in names that are not UTF-8 are replaced."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            name = os.fsencode(path.name)
            if (text := name.decode("utf-8", "replace").encode()) != name:
                os.replace(path, os.path.join(os.fsencode(path.parent), text))


@caught_by("special-files/deep-directories")
class PathsAreShort(Refuses):
    """Paths of over a thousand bytes are refused."""

    def is_refused(self, entry: Entry) -> bool:
        return entry.type == b"x" and len(entry.data) > 1024


@caught_by("special-files/devices-below-can-be-deleted")
class DevicesAreNeverDeleted(TarGoes):
    """A Diff has no whiteouts of devices."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if is_whiteout(entry) and self.asked[1]:
            with mounted(self.whole, self.asked[1]) as below:
                old = Path(below, entry.name.replace(".wh.", "")).lstat()
                if stat.S_ISCHR(old.st_mode) or stat.S_ISBLK(old.st_mode):
                    return None
        return entry


@caught_by("special-files/longest-names-below-can-be-deleted")
class LongestNamesAreNeverDeleted(TarGoes):
    """A Diff has no whiteout whose name would be too long for a file's."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if len(os.path.basename(entry.name)) > 255 else entry


class _Mapped(Broken):
    maps: Sequence[IDMap] = ()

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self.maps = uid_maps
        super().init(home, options, uid_maps, gid_maps)


@caught_by("id-maps/owners-are-mapped-both-ways")
class DiffsAreNotMappedBack(_Mapped, TarGoes):
    """A Diff says who owns files on disk."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if self.maps:
            entry.uid += self.maps[0].host_id
        return entry


@caught_by("id-maps/new-layers-belong-to-the-containers-root")
class NewLayersAreTheHosts(_Mapped):
    """A new layer's directory belongs to the host's root."""

    def get(self, id: str, mount_label: str) -> str:
        path = super().get(id, mount_label)
        if self.maps and not os.listdir(path):
            os.chown(path, 0, 0)
        return path


@caught_by("id-maps/containers-root-can-reach-its-layer")
class LayersAreClosed(_Mapped):
    """The directory that a layer's is in is root's alone."""

    def get(self, id: str, mount_label: str) -> str:
        path = super().get(id, mount_label)
        os.chmod(os.path.dirname(path), 0o700)
        return path


@caught_by("id-maps/written-by-a-container")
class WhiteoutsAreTheHosts(_Mapped, TarGoes):
    """A whiteout in a Diff belongs to who is root on disk."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if self.maps and is_whiteout(entry):
            entry.uid = self.maps[0].host_id
        return entry


@caught_by("id-maps/unmapped-owner-is-rejected")
class StrangersBecomeRoot(TarComes):
    """An owner that no map holds becomes root."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.uid > 5000:
            entry = entry.with_field(108, b"0000000\0")
        yield entry


@caught_by("id-maps/unmapped-owner-is-named")
class StrangersAreNotNamed(Broken):
    """The error of an owner that no map holds does not name it."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        try:
            return super().apply_diff(id, parent, archive)
        except GraphDriverError as error:
            raise GraphDriverError("cannot be mapped") from error


@caught_by("id-maps/capability-is-the-containers")
class CapabilitiesAreNotMapped(TreeSpoiled):
    """A file capability holds for the host's root."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        for path in every(root):
            if path.is_file() and os.listxattr(path):
                os.setxattr(path, "security.capability", CAPABILITY)
