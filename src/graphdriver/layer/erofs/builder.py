"""The builder: applies a tar's entries to a tree in memory, with the result that unpacking them has.

The result is that of `graphdriver.layer.unpack.unpack` into an upper directory. A tar that is refused
there, and many an unusual one, ends in an error here: then the unpacker decides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from graphdriver.driver import IDMap, host_root
from graphdriver.layer import whiteout
from graphdriver.layer.erofs.attributes import as_on_disk
from graphdriver.layer.erofs.below import LayersBelow
from graphdriver.layer.erofs.bounds import ITEM, Budget, CannotHoldError
from graphdriver.layer.erofs.chunks import chunk_bits, list_size
from graphdriver.layer.erofs.copied import CopiedData, Range
from graphdriver.layer.erofs.links import TreeLinks
from graphdriver.layer.erofs.structures import NAME_MAX, TARGET_MAX
from graphdriver.layer.erofs.tree import Area, Directory, Extent, Inode, packed_file, unpacked_file
from graphdriver.layer.erofs.upper_tree import Location, UpperNode, UpperTree
from graphdriver.layer.overlay.whiteout import would_be_whiteout
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.write.refusals import Losses
from graphdriver.layer.write.translation import Translation

_NO_NAMES: Final = frozenset({b"", b".", b".."})
_SPECIAL: Final = {
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}
_TIMES: Final = range(-(1 << 31) * 1_000_000_000, ((3 << 32) + (1 << 31)) * 1_000_000_000)
"""The times that ext4 keeps, in nanoseconds: a file of an image must keep its time when it is copied
there."""
_LARGEST: Final = 1 << 43
"""The limit of a file's size, in bytes: ext4 has files of up to 16 TiB."""


class LayerBuilder:
    """The tree of one layer, entry by entry.

    Args:
        uid_maps: user ids in the tar to those on disk; empty means "the same".
        gid_maps: likewise for groups.
        below: the layers below.
        budget: the memory and the steps for all of it.
        losses: warns of what is left out.

    Attributes:
        root: the root of the tree.
    """

    def __init__(
        self,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
        below: LayersBelow,
        budget: Budget,
        losses: Losses,
    ) -> None:
        self._copied = CopiedData(budget)
        owner = host_root(uid_maps), host_root(gid_maps)
        self._tree = UpperTree(owner, below, self._copied, budget)
        self.root = self._tree.root
        self._links = TreeLinks(self._tree, budget)
        self._translation = Translation(uid_maps, gid_maps, losses)
        self._below = below
        self._budget = budget
        self._losses = losses
        self._at: Location | None = None
        self._head = b""
        self._names_root = False
        self._has_link_targets = False

    def add(self, entry: Entry, data_start: int) -> None:
        """Apply one entry.

        Args:
            entry: the entry; it is changed.
            data_start: where its data begin in the tar, in bytes.

        Raises:
            CannotHoldError: an image cannot hold the layer, or may differ from what is unpacked.
            GraphDriverError: the entry is wrong.
            OSError: the layers below cannot be read.
        """
        head, _, name = entry.name.rstrip(b"/").rpartition(b"/")
        at = self._at
        # Most entries are in the same directory as the one before; equal text is enough to know that.
        if at is None or head != self._head or name in _NO_NAMES:
            parts = clean(entry.name)
            if not parts:
                self._describe_root(entry)
                return
            ends_in_dots = name in _NO_NAMES
            name = parts.pop()
            if parts and not self._is_content(parts):
                return
            at = self._tree.enter(parts)
            self._at = None if ends_in_dots else at
            self._head = head
        if name.startswith(whiteout.PREFIX):
            self._delete(at, name)
        else:
            if len(name) > NAME_MAX:
                raise CannotHoldError(f"{show(entry.name)} is too long")
            self._translate(entry)
            self._make(at, name, entry, data_start)
        if self._tree.has_moved:
            self._tree.has_moved = False
            self._at = None

    def finish(self) -> None:
        """Make the waiting links; describe the root, if no entry did; remove AUFS's link targets.

        Raises:
            CannotHoldError: a hard link has no target.
            OSError: the layers below cannot be read.
        """
        self._links.finish()
        if self._has_link_targets:
            if self.root.is_opaque:
                raise CannotHoldError("AUFS's own directory is in an opaque one")
            self.root.entries.pop(whiteout.LINK_TARGETS, None)
        if not self._names_root and (shown := self._below.root()):
            root = self.root
            root.mode, root.uid, root.gid = shown.mode, shown.uid, shown.gid
            root.mtime_ns = shown.mtime_ns
            root.xattrs = _with_opaque(root, shown.xattrs)

    def write_copied(self, fd: int, start: int, tar_fd: int, tar_start: int) -> int:
        """Write the data that have no blocks of their own in the tar; return their size in bytes.

        Args:
            fd: the image.
            start: where they begin in it, in bytes.
            tar_fd: the file with the tar.
            tar_start: where the tar begins in that, in bytes.

        Raises:
            OSError: they cannot be read or written.
        """
        if not self._copied:
            return 0
        shown = {id(node) for _, _, node in self._files() if isinstance(node, Inode)}
        return self._copied.write(fd, start, tar_fd, tar_start, self._below, shown)

    def changed_size(self) -> int:
        """Return the size in bytes of the layer's own files.

        It is known when the index is written. A hard-linked file counts once, a symbolic link as the
        length of its target. Files that came with the tar count even if they are the same as in the
        layers below; copies from there do not.
        """
        linked = set()
        total = 0
        for directory, name, node in self._files():
            if isinstance(node, bytes):
                total += unpacked_file(node).size
            elif self._tree.is_own(directory, name, node):
                if node.links > 1:
                    if id(node) in linked:
                        continue
                    linked.add(id(node))
                total += node.size
        return total

    def _files(self) -> Iterator[tuple[UpperNode, bytes, Inode | bytes]]:
        """Yield all that are not directories, by all their names."""
        found = [self.root]
        for directory in found:  # it grows meanwhile
            for name, node in directory.entries.items():
                if isinstance(node, UpperNode):
                    found.append(node)
                elif not isinstance(node, Directory):
                    yield directory, name, node

    def _is_content(self, parts: list[bytes]) -> bool:
        """Tell whether entries of this directory are the layer's, and not AUFS's own."""
        for part in parts:
            if part == whiteout.LINK_TARGETS and len(parts) == 1:
                if not self._has_link_targets and part in self.root.entries:
                    raise CannotHoldError("a link leads to AUFS's own directory")
                self._has_link_targets = True
            elif part.startswith(whiteout.META_PREFIX):
                return False
            elif part.startswith(whiteout.PREFIX):
                raise CannotHoldError("a directory on its way is called like a whiteout")
        return True

    def _delete(self, at: Location, name: bytes) -> None:
        if name == whiteout.OPAQUE:
            self._tree.apply_opaque(at)
        elif not name.startswith(whiteout.META_PREFIX):
            self._tree.apply_whiteout(at, whiteout.target(name))

    def _describe_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise CannotHoldError("the layer's root cannot be anything but a directory")
        self._translate(entry)
        self._set_directory(self.root, entry)
        self._names_root = True

    def _translate(self, entry: Entry) -> None:
        self._translation.translate(entry)
        if entry.mtime_ns not in _TIMES:
            raise CannotHoldError(f"{show(entry.name)} has a time that ext4 does not keep")

    def _make(self, at: Location, name: bytes, entry: Entry, data_start: int) -> None:
        directory = at.directory
        match entry.type:
            case EntryType.HARD_LINK:
                if not self._links.make(at, name, entry):
                    return
            case EntryType.DIRECTORY:
                self._make_directory(directory, name, entry)
            case EntryType.CHARACTER_DEVICE if would_be_whiteout(entry):
                self._losses.note(
                    "deletions",
                    f"{show(entry.name)}: a 0:0 character device is a deletion to overlay"
                    " filesystems: left out",
                )
                self._links.leave_out(at, name)
                return
            case _:
                node = self._node(entry, data_start)
                if name in directory.entries:
                    self._tree.make_room(directory, name)
                self._tree.put(directory, name, node)
        self._links.note_made(at, name)
        self._tree.note_made(directory, name)

    def _make_directory(self, directory: UpperNode, name: bytes, entry: Entry) -> None:
        there = directory.entries.get(name)
        if isinstance(there, UpperNode):
            self._set_directory(there, entry)
            return
        made = UpperNode(0, 0, 0, 0)
        self._set_directory(made, entry)
        if there is not None:
            # What was there hid the directory below; the new one must not show it again.
            made.make_opaque()
            self._tree.make_room(directory, name)
        self._tree.put(directory, name, made)

    def _set_directory(self, directory: UpperNode, entry: Entry) -> None:
        mode, xattrs = as_on_disk(entry, self._losses)
        self._spend(xattrs)
        directory.mode = stat.S_IFDIR | mode
        directory.uid, directory.gid = entry.uid, entry.gid
        directory.mtime_ns = entry.mtime_ns
        directory.xattrs = _with_opaque(directory, xattrs)

    def _node(self, entry: Entry, data_start: int) -> Inode | bytes:
        mode, xattrs = as_on_disk(entry, self._losses)
        self._spend(xattrs)
        type = entry.type
        if type is EntryType.FILE:
            if not xattrs and entry.sparse is None:
                mode |= stat.S_IFREG
                return packed_file(
                    mode, entry.uid, entry.gid, entry.mtime_ns, entry.size, data_start
                )
            inode = Inode(
                stat.S_IFREG | mode, entry.uid, entry.gid, entry.mtime_ns, entry.size, data_start
            )
            if entry.sparse is not None:
                self._set_ranges(inode, entry.sparse, data_start)
        elif type is EntryType.SYMLINK:
            target = entry.link
            if not 0 < len(target) <= TARGET_MAX:
                raise CannotHoldError(f"{show(entry.name)} has a target of {len(target)} bytes")
            self._budget.spend(len(target))
            inode = Inode(
                stat.S_IFLNK | 0o777, entry.uid, entry.gid, entry.mtime_ns, len(target), target
            )
        else:
            rdev = os.makedev(*entry.device) if type is not EntryType.FIFO else 0
            inode = Inode(_SPECIAL[type] | mode, entry.uid, entry.gid, entry.mtime_ns, rdev=rdev)
        inode.xattrs = xattrs
        return inode

    def _set_ranges(self, inode: Inode, sparse: list[tuple[int, int]], data_start: int) -> None:
        """Set the data of a sparse file: its blocks in the tar if they are on the grid."""
        if inode.size > _LARGEST:
            raise CannotHoldError(f"a sparse file claims {inode.size} bytes")
        ranges: list[Range] = []
        for at, length in sparse:
            if ranges and sum(ranges[-1][:2]) == at:
                before, had, offset = ranges[-1]
                ranges[-1] = before, had + length, offset
            else:
                ranges.append((at, length, data_start))
            data_start += length
        extents = tuple(Extent(at, Area.TAR, offset, length) for at, length, offset in ranges)
        bits = chunk_bits(inode.size, extents)
        if bits is None:
            inode.data = 0
            self._copied.add_ranges(inode, ranges)
        else:
            data = sum(length for _, length in sparse)
            self._budget.spend_on_disk(list_size(inode.size, bits), data)
            self._budget.spend(2 * ITEM * len(extents))
            inode.data = extents

    def _spend(self, xattrs: dict[bytes, bytes] | None) -> None:
        if xattrs:
            self._budget.spend(2 * ITEM)
            for name, value in xattrs.items():
                self._budget.spend(ITEM + len(name) + len(value))


def _with_opaque(
    directory: UpperNode, xattrs: dict[bytes, bytes] | None
) -> dict[bytes, bytes] | None:
    """Return a directory's new attributes, with its opaque mark if it has one."""
    if not directory.is_opaque:
        return xattrs
    directory.xattrs = xattrs
    directory.make_opaque()
    return directory.xattrs
