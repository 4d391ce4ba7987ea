"""The unpacker: writes a layer's tar into a tree, and nowhere else.

- Every entry is made in one open directory, its parent (`graphdriver.layer.write.cursor`); nothing
  else stays open. The later entry of a name wins (`graphdriver.layer.write.entry`).
- Missing parents are made, 0755 and root's. They replace files of the layers below; an entry below a
  file of the same tar is an error.
- A directory has the time of its entry; without an entry it keeps its time. For this the times of each
  directory are restored when it is left, so entries may come in any order, and no list of directories
  is kept.
- The root's own entry (``.``, ``/``, ``./``) must be a directory (CVE-2021-29136).
- An image gives no orders to the filesystem that shows the tree: attributes that are not content
  (`graphdriver.layer.attributes`) and devices that the form cannot hold are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphdriver.driver import IDMap, ReadStream
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer import whiteout
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tree.directory import Dir, LayerDir
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.resolver import Resolver, clean
from graphdriver.layer.write.cursor import Cursor
from graphdriver.layer.write.entry import EntryWriter
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.inode import Data
from graphdriver.layer.write.metadata import set_directory_metadata
from graphdriver.layer.write.plain_tree import PlainTree
from graphdriver.layer.write.refusals import Losses, raise_refused
from graphdriver.layer.write.translation import Translation

_NO_NAMES = frozenset({b"", b".", b".."})


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The result of unpacking a tar.

    Attributes:
        size: the sum of the sizes in its headers, in bytes.
        inodes: how many files, directories and others were made.
        describes_root: whether it has an entry for its root.
    """

    size: int
    inodes: int
    describes_root: bool


def unpack(
    archive: ReadStream,
    root_fd: int,
    *,
    uid_maps: Sequence[IDMap] = (),
    gid_maps: Sequence[IDMap] = (),
    form: Callable[[int], Form] = PlainTree,
) -> Unpacked:
    """Write a layer's tar into a tree.

    After an error the tree is incomplete, and can only be removed.

    Args:
        archive: an uncompressed tar; a whole stream of no bytes is an empty layer. It is read to its
            end.
        root_fd: the tree's root, open for reading; borrowed.
        uid_maps: user ids in the tar to those on disk; empty means "the same".
        gid_maps: likewise for groups.
        form: makes the tree's form from its root: `PlainTree`, for a tree that is a copy of the
            parent's, or a form of `graphdriver.layer.overlay`.

    Raises:
        BadArchiveError: the tar is damaged or hostile; the text names the entry.
        BrokenStreamError: it broke off.
        UnsupportedError: the filesystem cannot store an entry.
        GraphDriverError: an id is outside the maps, or the disk is full.
        OSError: the tree itself cannot be read or written.
    """
    unpacker = _Unpacker(root_fd, uid_maps, gid_maps, form(root_fd))
    reader = TarReader(archive)
    size = 0
    entry = None
    try:
        for entry in reader:
            size += entry.size
            unpacker.add(entry, reader)
        entry = None
        unpacker.finish()
    except GraphDriverError as error:
        if entry is None or error.problem.startswith(show(entry.name)):
            raise
        raise type(error)(f"{show(entry.name)}: {error.problem}", hint=error.hint) from error
    except OSError as error:
        if entry is None:
            raise
        raise_refused(entry, error, root_fd)
    finally:
        unpacker.close()
    return Unpacked(size, unpacker.inodes, unpacker.describes_root)


class _Unpacker:
    """The state of one `unpack`: finds each entry's directory, checks and translates the entry.

    Attributes:
        describes_root: whether there was an entry for the root.
    """

    def __init__(
        self,
        root_fd: int,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
        form: Form,
    ) -> None:
        self._root_fd = root_fd
        self._form = form
        self._losses = Losses()
        self._translation = Translation(uid_maps, gid_maps, self._losses)
        self._cursor = Cursor(Resolver(root_fd), form, uid_maps, gid_maps)
        self._writer = EntryWriter(self._cursor, form, self._losses)
        self._last_head: bytes | None = None
        self._has_link_targets = False
        self.describes_root = False

    @property
    def inodes(self) -> int:
        """How many inodes were made so far."""
        return self._writer.inodes + self._cursor.inodes

    def add(self, entry: Entry, data: Data) -> None:
        """Make one entry."""
        head, _, name = entry.name.rstrip(b"/").rpartition(b"/")
        is_odd = name in _NO_NAMES
        cursor = self._cursor
        parent = cursor.parent
        # Most entries are in the same directory as the one before; equal text is enough to know that.
        if parent is None or is_odd or head != self._last_head:
            parts = clean(entry.name)
            if not parts:
                self._describe_root(entry)
                return
            name = parts.pop()
            if parts and not self._is_content(parts):
                return
            parent = cursor.enter(parts)
            self._last_head = None if is_odd else head
        if name.startswith(whiteout.PREFIX):
            self._delete(parent.dir, name)
            cursor.leave_if_replaced()  # the whiteout may have removed a link on the way to here
            return
        self._translation.translate(entry)
        self._writer.write(parent, name, entry, data)
        if cursor.has_replaced:
            cursor.leave_if_replaced()

    def finish(self) -> None:
        """Make the waiting links, restore times, and remove AUFS's directory of link targets."""
        self._writer.finish()
        self._cursor.leave()
        if self._has_link_targets:
            with Dir.at(self._root_fd) as root:
                times = root.times()
                remove_tree(root.fd, whiteout.LINK_TARGETS)
                root.set_times(times)

    def close(self) -> None:
        """Close all descriptors, also after an error."""
        self._form.close()
        self._cursor.close()

    def _is_content(self, parts: list[bytes]) -> bool:
        """Tell whether entries of this directory are the layer's, and not AUFS's own."""
        for part in parts:
            if part == whiteout.LINK_TARGETS and len(parts) == 1:
                if not self._has_link_targets:
                    # A parent layer may have left some, and this layer's links would lead to them.
                    self._cursor.leave()
                    remove_tree(self._root_fd, part)
                    self._has_link_targets = True
            elif part.startswith(whiteout.META_PREFIX):
                return False
            elif part.startswith(whiteout.PREFIX):
                raise BadArchiveError("a directory on its way is called like a whiteout")
        return True

    def _describe_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise BadArchiveError("the layer's root cannot be anything but a directory")
        self._translation.translate(entry)
        self._cursor.leave()  # otherwise a later leave would restore the root's former times
        with Dir.at(self._root_fd) as root:
            set_directory_metadata(root.fd, entry, is_new=False, losses=self._losses)
        self.describes_root = True

    def _delete(self, directory: LayerDir, name: bytes) -> None:
        if name == whiteout.OPAQUE:
            self._form.apply_opaque(directory)
        elif not name.startswith(whiteout.META_PREFIX):
            self._form.apply_whiteout(directory, whiteout.target(name))
