"""A comparison of two trees: what a layer changed.

The rules are those of Docker's own comparison, without its blind spots:

- The root itself is never listed. A directory differs by mode, owner and extended attributes, not by
  size or time; anything else also by type, device, size and time.
- The directories above a change are listed as modified. A directory that was replaced by something else
  is one change; its former content is not listed.
- Two times count as equal within a second if either has no nanoseconds, as after a tar that had none.
- Two files that look the same are compared by content, so that a change of the same size within the
  same tick of the clock is found without sleeping first. They are not compared if they are one inode,
  or if the file was not touched since its layer was made. Its change time shows that; no program can
  set it. But files in a renamed directory keep their old change times, so files below a directory that
  was touched itself are compared by content too.
- Change times are trusted on filesystems that are known to change them with every write. tmpfs does
  not: a page that was mapped and read can be written later unseen. On XFS two directories that change
  places (RENAME_EXCHANGE) keep theirs, and only the directory that they are in shows it.
- If one tree is a snapshot of the other, and the filesystem knows what was touched since
  (`graphdriver.abilities.Touched`), only that is compared. For an inode of both trees its own change
  time is enough.
- The tree may be in use. An entry that vanishes meanwhile counts as deleted, one that is replaced
  meanwhile as modified.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from graphdriver.abilities import Touched
from graphdriver.driver import ChangeKind
from graphdriver.layer.attributes import is_same_content
from graphdriver.layer.change_list import Changed, ChangeReport
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.trail import Trail
from graphdriver.layer.tree.walk import walk
from graphdriver.linux import filesystem, xattr
from graphdriver.linux.regular_file import open_regular

CLOCK_TICK_NS = 10_000_000
"""The coarsest step of the kernel's file times (CONFIG_HZ=100), in nanoseconds."""

_TELL_EVERY_WRITE = frozenset({filesystem.EXT4, filesystem.XFS, filesystem.BTRFS})
_PIECE = 1 << 20
_MOVING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})
"""The errors of calls on a name that has changed its type since lstat(2)."""


def compare(
    upper_fd: int,
    lower_fd: int | None,
    *,
    untouched_before_ns: int | None = None,
    touched: Touched | None = None,
) -> Iterator[Changed]:
    """Yield the changes from the tree of ``lower_fd`` to that of ``upper_fd``, siblings in byte order.

    Args:
        upper_fd: the layer's root; borrowed.
        lower_fd: its parent's; None: everything was added.
        untouched_before_ns: when the upper tree was a finished copy of the lower one, by the clock of
            its filesystem (the change time of a file that was written after the copy). A file with a
            change time at least a clock tick before that is untouched, if the same is true of all
            directories above it.
        touched: where the two trees can differ, if the upper one is a snapshot of the lower one; only
            that is compared.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: something cannot be read.
    """
    if lower_fd is None:
        for node in walk(upper_fd):
            yield Changed(node.above.depth, node.name, ChangeKind.ADDED, node.stat)
        return
    yield from _compare(upper_fd, lower_fd, _believable(upper_fd, untouched_before_ns), touched)


def _believable(upper_fd: int, untouched_before_ns: int | None) -> int:
    """Return the time before which change times prove that a file is untouched; 0: none does."""
    if untouched_before_ns is None:
        return 0
    before = untouched_before_ns - CLOCK_TICK_NS
    magic = filesystem.magic_of(upper_fd)
    if magic not in _TELL_EVERY_WRITE:
        return 0
    if magic == filesystem.XFS and os.fstat(upper_fd).st_ctime_ns >= before:
        return 0
    return before


def _compare(
    upper_fd: int, lower_fd: int, untouched_before: int, touched: Touched | None
) -> Iterator[Changed]:
    with Trail(upper_fd) as upper, Trail(lower_fd) as lower:
        some = touched.names_in(os.fstat(upper.here.fd).st_ino) if touched else None
        levels = [(untouched_before, iter(_names_of_both(upper.here, lower.here, some)))]
        report = ChangeReport()
        while levels:
            untouched, names = levels[-1]
            in_upper, in_lower = upper.here, lower.here
            for name in names:
                above = in_upper.find(name)
                below = in_lower.find(name)
                if above is None:
                    if below is not None:
                        yield from report.change(name, ChangeKind.DELETED, None)
                    continue
                some, before, kind = None, untouched, None
                if below is None:
                    kind = ChangeKind.ADDED
                else:
                    if touched and touched.were_one(above, below):
                        some, before = touched.names_in(above.st_ino), untouched_before
                    if some is None and not same(
                        in_upper.fd, in_lower.fd, name, above, below, before
                    ):
                        kind = ChangeKind.MODIFIED
                is_entered = False
                if below and stat.S_ISDIR(above.st_mode) and stat.S_ISDIR(below.st_mode):
                    if some is not None and not some:
                        continue
                    is_entered = _entered(upper, lower, name)
                    if not is_entered and in_upper.find(name) is None:
                        kind, above = ChangeKind.DELETED, None
                if kind is not None:
                    yield from report.change(name, kind, above)
                if is_entered:
                    assert above is not None
                    assert below is not None
                    # Files in a renamed directory keep their old change times, which prove nothing.
                    if not _untouched(above, below, untouched):
                        untouched = 0
                    names = iter(_names_of_both(upper.here, lower.here, some))
                    levels.append((untouched, names))
                    report.enter(name, is_listed=kind is not None)
                    break
                if above and stat.S_ISDIR(above.st_mode) and not _is_directory(below):
                    yield from _all_in(upper, name, report.depth + 1)
            else:
                levels.pop()
                if levels:
                    upper.leave()
                    lower.leave()
                    report.leave()


def _names_of_both(upper: Dir, lower: Dir, some: Sequence[bytes] | None) -> Sequence[bytes]:
    """Return the names to compare in two directories: ``some`` if that is known."""
    if some is not None:
        return some
    names = upper.names()
    below = lower.names()
    return names if names == below else sorted({*names, *below})


def _entered(upper: Trail, lower: Trail, name: bytes) -> bool:
    """Go down on both sides, unless the upper directory has vanished or either is a mount."""
    if not lower.enters(name):
        return False
    if not upper.enters(name):
        lower.leave()
        return False
    return True


def _is_directory(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISDIR(found.st_mode)


def _all_in(upper: Trail, name: bytes, depth: int) -> Iterator[Changed]:
    if upper.enters(name):
        for node in walk(upper.here.fd):
            yield Changed(depth + node.above.depth, node.name, ChangeKind.ADDED, node.stat)
        upper.leave()


def same(
    upper_fd: int,
    lower_fd: int,
    name: bytes,
    above: os.stat_result,
    below: os.stat_result,
    untouched_before: int,
) -> bool:
    """Tell whether a name is the same in two directories, by the rules above.

    Args:
        upper_fd: the directory in the upper tree; borrowed.
        lower_fd: the one in the lower tree; borrowed.
        name: the name in both.
        above: the result of lstat(2) in the upper tree.
        below: the result of lstat(2) in the lower tree.
        untouched_before: change times before this one, in nanoseconds, prove an untouched copy; 0:
            none.

    Raises:
        OSError: something cannot be read.
    """
    if (above.st_ino, above.st_dev) == (below.st_ino, below.st_dev):
        return True
    if not (
        above.st_mode == below.st_mode
        and above.st_uid == below.st_uid
        and above.st_gid == below.st_gid
    ):
        return False
    try:
        if stat.S_ISDIR(above.st_mode):
            return _untouched(above, below, untouched_before) or is_same_content(
                xattr.get_all_at(upper_fd, name), xattr.get_all_at(lower_fd, name)
            )
        if not (
            above.st_size == below.st_size
            and above.st_rdev == below.st_rdev
            and _same_time(above.st_mtime_ns, below.st_mtime_ns)
        ):
            return False
        if _untouched(above, below, untouched_before):
            return True
        if stat.S_ISREG(above.st_mode):
            return _same_file(upper_fd, lower_fd, name, above.st_size)
        if stat.S_ISLNK(above.st_mode) and os.readlink(name, dir_fd=upper_fd) != os.readlink(
            name, dir_fd=lower_fd
        ):
            return False
        return is_same_content(xattr.get_all_at(upper_fd, name), xattr.get_all_at(lower_fd, name))
    except OSError as error:
        if error.errno not in _MOVING:
            raise
        return False


def _untouched(above: os.stat_result, below: os.stat_result, before: int) -> bool:
    # Both, since the lower file may have been written after the copy was made, outside of any layer.
    return above.st_ctime_ns < before and below.st_ctime_ns < before


def _same_time(one: int, other: int) -> bool:
    if one % 1_000_000_000 == 0 or other % 1_000_000_000 == 0:
        return one // 1_000_000_000 == other // 1_000_000_000
    return one == other


def _same_file(upper_fd: int, lower_fd: int, name: bytes, size: int) -> bool:
    one = open_regular(upper_fd, name)
    try:
        other = open_regular(lower_fd, name)
        try:
            if not is_same_content(xattr.get_all(one), xattr.get_all(other)):
                return False
            return _same_content(one, other, size)
        finally:
            os.close(other)
    finally:
        os.close(one)


def _same_content(one: int, other: int, size: int) -> bool:
    """Tell whether two files have the same content; skip holes, which may be exabytes."""
    at = 0
    while at < size:
        if size > _PIECE:
            at = min(_next_data(one, at, size), _next_data(other, at, size))
        piece = os.pread(one, _PIECE, at)
        if piece != os.pread(other, _PIECE, at):
            return False
        at += len(piece) or size  # an empty piece: the end of a hole, or of a file that shrank
    return True


def _next_data(fd: int, at: int, size: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
