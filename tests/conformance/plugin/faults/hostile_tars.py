"""Faults in what becomes of hostile images: each is fooled by one thing."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from typing import ClassVar

from graphdriver.driver import ReadStream, mounted
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.support.unfiltered_tars import unfiltered


def _read(archive: ReadStream) -> bytes:
    return b"".join(iter(lambda: archive.read(1 << 20), b""))


class _Trusting(Broken):
    """Unpacks by path, as simple programs do, whatever `is_fooled` says so of."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = _read(archive)
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                members = tar.getmembers()
                with mounted(self.whole, id) as root:
                    if self.is_fooled(root, members):
                        for member in members:
                            self.unpack(tar, member, root)
                        return 0
        except (tarfile.TarError, OSError) as error:
            raise GraphDriverError(str(error)) from error
        return super().apply_diff(id, parent, io.BytesIO(data))

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        raise NotImplementedError

    def unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
        unfiltered(tar).extract(member, root)


@caught_by("hostile-tars/names-that-climb")
class NamesMayClimb(_Trusting):
    """`..` in a name is followed."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        return any(".." in one.name for one in members)


@caught_by("hostile-tars/absolute-names")
class NamesMayBeAbsolute(_Trusting):
    """A name that begins with a slash is the host's."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        return any(one.name.startswith("/") for one in members)


@caught_by("hostile-tars/writing-through-a-symbolic-link")
class LinksAreFollowed(_Trusting):
    """A directory of a name may be a symbolic link of the same tar."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        links = [one.name for one in members if one.issym()]
        return any(one.name.startswith(f"{link}/") for one in members for link in links)


@caught_by("hostile-tars/writing-to-a-symbolic-link")
class FilesAreWrittenThroughLinks(_Trusting):
    """A file in the place of a link is written to where that leads."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        links = {one.name for one in members if one.issym()}
        return any(one.name in links for one in members if one.isreg())


@caught_by("hostile-tars/links-of-the-layer-below")
class LinksBelowAreFollowed(_Trusting):
    """A directory of a name may be a symbolic link of the layer below."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        return any(os.path.islink(os.path.join(root, one.name.split("/")[0])) for one in members)


@caught_by("hostile-tars/hard-links-to-the-host")
class HardLinksLeadAnywhere(_Trusting):
    """A hard link's target is taken as a path of the host's."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        return any(one.islnk() for one in members)

    def unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
        if member.islnk():
            os.link(os.path.join(root, member.linkname), os.path.join(root, member.name))
        else:
            super().unpack(tar, member, root)


@caught_by("hostile-tars/whiteouts-that-reach-outside")
class WhiteoutsFollowLinks(_Trusting):
    """What a whiteout deletes is found by path."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        return any("/.wh." in one.name for one in members)

    def unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
        directory, name = os.path.split(os.path.join(root, member.name))
        if name.startswith(".wh."):
            os.unlink(os.path.join(directory, name.removeprefix(".wh.")))
        else:
            super().unpack(tar, member, root)


class _Overlay(Broken):
    """Something more is done in the upper directory of a layer that was applied."""

    good = Overlay2Driver

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = _read(archive)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = tar.getmembers()
        left = [one for one in members if not self.obey(one, "")]
        if len(left) == len(members):
            return super().apply_diff(id, parent, io.BytesIO(data))
        for one in members:
            self.obey(one, os.path.join(self.home, id, "diff", one.name))
        return 0

    def obey(self, member: tarfile.TarInfo, path: str) -> bool:
        """Tell whether an entry is an order; where there is a path, write it there as it came."""
        raise NotImplementedError


@caught_by("hostile-tars/overlay-attributes-are-ignored")
class AttributesAreObeyed(_Overlay):
    """trusted.overlay.* attributes are written as they come."""

    def obey(self, member: tarfile.TarInfo, path: str) -> bool:
        key = "SCHILY.xattr.trusted.overlay.opaque"
        if path:
            os.mkdir(path, 0o755)
            os.setxattr(path, "trusted.overlay.opaque", member.pax_headers[key].encode())
        return key in member.pax_headers


@caught_by("hostile-tars/zero-devices-are-no-whiteouts")
class ZeroDevicesAreObeyed(_Overlay):
    """A device 0:0 is made as it comes, and deletes what is below."""

    def obey(self, member: tarfile.TarInfo, path: str) -> bool:
        if path:
            os.mknod(path, 0o600 | 0o020000, 0)
        return member.ischr()


@caught_by("hostile-tars/root-is-a-directory")
class TheRootMayBeALink(_Trusting):
    """A link in the place of the root replaces the layer by what it leads to."""

    def is_fooled(self, root: str, members: Sequence[tarfile.TarInfo]) -> bool:
        return any(one.issym() and one.name in (".", "./", "/", "") for one in members)

    def unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
        if member.issym():
            shutil.rmtree(root)
            os.symlink(member.linkname, root)
        else:
            super().unpack(tar, member, root)


@caught_by("hostile-tars/headers-that-claim-gigabytes")
class HugeHeadersAreSkipped(Broken):
    """A header that is too large is passed over, and what is behind it is called good."""

    kinds: ClassVar[bytes] = b"LKxg"

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        first = archive.read(512)
        if first[156:157] in [bytes([kind]) for kind in self.kinds]:
            return 0
        return super().apply_diff(id, parent, io.BytesIO(first + _read(archive)))


@caught_by("hostile-tars/damaged-tars")
class DamageIsTheEnd(Broken):
    """A tar ends where it cannot be read any further."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        try:
            return super().apply_diff(id, parent, archive)
        except GraphDriverError:
            return 0
