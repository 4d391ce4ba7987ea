"""The probe of the driver erofs: can images be mounted in a home, and in which way?

The answer depends on the kernel, the filesystem and the disk, and some kernels leave things out
silently. So the probe writes an image that holds one thing of each kind, mounts it and reads it. It
mounts an overlay on it, and another overlay on that, as a Docker in a container does. A way in which
any of this fails is not used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Final

from graphdriver.drivers.erofs.mounting import FSTYPE, Way, mount_image
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import Overlay
from graphdriver.drivers.overlay.options import XINO, HomeOptions
from graphdriver.drivers.overlay.probe import probe_overlayfs, trial
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.erofs.index import HEAD, Place, write_index
from graphdriver.layer.erofs.structures import BLOCK
from graphdriver.layer.erofs.tree import Area, Directory, Extent, Inode
from graphdriver.layer.overlay.whiteout import TRUSTED
from graphdriver.linux import mount as calls
from graphdriver.linux import xattr
from graphdriver.linux.acl import ACCESS_ACL
from graphdriver.linux.mountinfo import mount_points
from graphdriver.linux.namespaces import in_user_namespace

_APPLIED: Final = "applied"
_FIRST: Final = Overlay([_APPLIED, "lower"], "merged", "upper", "work", (XINO,))
_SECOND: Final = Overlay(["merged"], "second", "second-upper", "second-work")

_CONTENT: Final = b"content" * 100
_TAR: Final = bytes(BLOCK) + _CONTENT + bytes(-len(_CONTENT) % BLOCK)
_HOLE: Final = 8192
_NAMES: Final = frozenset(b"%03d" % number * 20 for number in range(100))
"""Of one directory; they take several blocks."""
_ACL: Final = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, id)
    for tag, permissions, id in (
        (0x01, 6, 0xFFFFFFFF),  # the owner
        (0x02, 6, 1),  # user 1
        (0x04, 4, 0xFFFFFFFF),  # the group
        (0x10, 6, 0xFFFFFFFF),  # the mask
        (0x20, 4, 0xFFFFFFFF),  # others
    )
)
"""An access control list as extended attribute (linux/posix_acl_xattr.h)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The result of a probe; as a mapping, its record.

    Attributes:
        backing: the name of the home's filesystem.
        way: the best way to mount images.
        has_xino: whether overlays on images take `XINO`.
    """

    backing: str = "unknown"
    way: Way = Way.FILE
    has_xino: bool = False

    def record(self) -> Mapping[str, object]:
        """Return the result in a form that fits in JSON."""
        return {**dataclasses.asdict(self), "way": self.way.value}

    @classmethod
    def parse(cls, record: Mapping[str, object]) -> Found:
        """Read a record; what is missing or damaged is as in a result without arguments."""
        way = record.get("way")
        return cls(
            str(record.get("backing", cls().backing)),
            next((one for one in Way if one.value == way), cls().way),
            record.get("has_xino") is True,
        )

    def __str__(self) -> str:
        return f"mounted {'through loop devices' if self.way is Way.LOOP else 'from their files'}"


def expect_erofs() -> None:
    """Check that this kernel mounts EROFS images for this process.

    Raises:
        UnsupportedError: it does not.
    """
    if in_user_namespace():
        raise UnsupportedError(
            "erofs: the kernel mounts no images in a user namespace", hint="use overlay2"
        )
    if not calls.knows(FSTYPE):
        raise UnsupportedError(
            "erofs: this kernel has no EROFS", hint="load it (modprobe erofs), or use overlay2"
        )


def probe_erofs(home: str, options: HomeOptions = HomeOptions()) -> Found:  # noqa: B008 - frozen
    """Find out how images can be mounted in a directory, and overlays on them.

    Args:
        home: the directory; it exists.
        options: the home's options.

    Raises:
        UnsupportedError: they cannot; the text says why for each way.
        OSError: nothing can be written there.
    """
    expect_erofs()
    backing = probe_overlayfs(home, options, "erofs")
    reasons: dict[str, list[str]] = {}
    for way in Way:
        with trial(home) as (directory, _):
            _write_image(f"{directory}/image")
            try:
                _try_way(directory, way)
                return Found(backing, way, _has_xino(directory))
            except GraphDriverError as error:
                reasons.setdefault(error.problem, []).append(way.value)
                last = error
    each = "; ".join(f"{', '.join(ways)}: {reason}" for reason, ways in reasons.items())
    raise UnsupportedError(
        f"erofs: {home} is on {backing}, and images cannot be mounted there ({each})",
        hint=f"{last.hint}; or put the home on a disk with Linux 6.12 or later, or use overlay2",
    ) from last


def _write_image(path: str) -> None:
    root = Directory(stat.S_IFDIR | 0o755, 0, 0, 0)
    many = Directory(stat.S_IFDIR | 0o755, 0, 0, 0)
    many.entries.update({name: Inode(stat.S_IFREG | 0o644, 0, 0, 0) for name in _NAMES})
    whole = Inode(stat.S_IFREG | 0o664, 0, 0, 0, len(_CONTENT), BLOCK, 0, {ACCESS_ACL: _ACL})
    piece = Extent(_HOLE, Area.TAR, BLOCK, len(_CONTENT))
    sparse = Inode(stat.S_IFREG | 0o644, 0, 0, 0, _HOLE + len(_CONTENT), (piece,))
    opaque = Directory(stat.S_IFDIR | 0o755, 0, 0, 0, {TRUSTED.opaque: b"y"})
    deleted = Inode(stat.S_IFCHR, 0, 0, 0)
    root.entries.update(
        {b"many": many, b"whole": whole, b"sparse": sparse, b"opaque": opaque, b"deleted": deleted}
    )
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, _TAR, HEAD)
        sizes = {"tar_size": len(_TAR), "copied_size": 0}
        write_index(root, fd, Place.BEHIND_TAR, **sizes, uuid=b"graphdriverprobe")
    finally:
        os.close(fd)


def _try_way(directory: str, way: Way) -> None:
    """Mount the image in a way, and overlays on it, and read them.

    Raises:
        GraphDriverError: that does not work.
    """
    for name in (_APPLIED, "lower/opaque", "lower/opaque/hidden"):
        os.mkdir(f"{directory}/{name}")
    for name in (_SECOND.target, _SECOND.upper, _SECOND.work):
        os.mkdir(f"{directory}/{name}")
    _mount_image(directory, way)
    _expect("the image", os.fsencode(f"{directory}/{_APPLIED}"), _marks_in)
    mounter = KernelMounter(directory)
    for overlay, what in ((_FIRST, "an overlay"), (_SECOND, "an overlay on an overlay")):
        mounter.mount(overlay)
        _expect(what, os.fsencode(f"{directory}/{overlay.target}"), _effects_in)


def _mount_image(directory: str, way: Way) -> None:
    with contextlib.ExitStack() as opened:
        image = os.open(f"{directory}/image", os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, image)
        target = os.open(f"{directory}/{_APPLIED}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, target)
        mount_image(image, target, way)


Checks = Mapping[str, bool]
"""What a mount must have, and whether it has it."""


def _expect(what: str, root: bytes, more: Callable[[bytes], Checks]) -> None:
    try:
        checks = {**_contents_in(root), **more(root)}
    except OSError as error:
        raise GraphDriverError(
            f"{what} cannot be read: {error.strerror}", hint="see the kernel's log (dmesg)"
        ) from error
    lacking = [name for name, is_there in checks.items() if not is_there]
    if lacking:
        raise GraphDriverError(
            f"{what} is mounted without {', '.join(lacking)}", hint="use another kernel"
        )


def _contents_in(root: bytes) -> Checks:
    return {
        "a file's content": _content(root + b"/whole") == _CONTENT,
        "holes": _content(root + b"/sparse") == bytes(_HOLE) + _CONTENT,
        "access control lists": xattr.get(root + b"/whole", ACCESS_ACL) == _ACL,
        "a large directory's names": set(os.listdir(root + b"/many")) == _NAMES,
    }


def _marks_in(root: bytes) -> Checks:
    deleted = os.stat(root + b"/deleted")
    return {
        "trusted attributes": xattr.get(root + b"/opaque", TRUSTED.opaque) == b"y",
        "0:0 devices": stat.S_ISCHR(deleted.st_mode) and deleted.st_rdev == 0,
    }


def _effects_in(root: bytes) -> Checks:
    os.chmod(root + b"/many", 0o700)
    return {
        "opaque directories": not os.listdir(root + b"/opaque"),
        "whiteouts": b"deleted" not in os.listdir(root),
        "copy-up": stat.S_IMODE(os.stat(root + b"/many").st_mode) == 0o700,
    }


def _content(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _has_xino(directory: str) -> bool:
    point = os.fsencode(f"{directory}/{_FIRST.target}")
    options = [one.options for one in mount_points() if one.point == point][-1]
    return XINO.encode() in options.split(b",")
