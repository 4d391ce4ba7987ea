"""A layer's tar into a tree, and nothing of it anywhere else.

The rules:

- Every entry is made in one open directory, its parent (`graphdriver.layer.write.cursor`); nothing
  else stays open.
- The later entry of a name wins. A folder over a folder keeps what is in it; whatever else is there is
  removed first, also what a hard link shares with a layer below.
- Parents that are missing are made, 0755 and root's. What a layer below has in their place goes; an
  entry below a file of the same tar is an error.
- A folder's time is what its entry says, else what it was: each folder that something is made in gets
  its time back when it is left. So entries may come in any order, and no list of folders is kept.
- The root's own entry (``.``, ``/``, ``./``) must be a folder (CVE-2021-29136).
- What is an order to whoever shows the tree is never obeyed: attributes that are no content
  (`graphdriver.layer.attributes`) and devices that the form cannot hold are left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphdriver.driver import IDMap, ReadStream
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer import whiteout
from graphdriver.layer.attributes import not_content, on_disk
from graphdriver.layer.idmap import to_host
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.resolver import Resolver, clean
from graphdriver.layer.write import entry as place
from graphdriver.layer.write.blame import raise_about
from graphdriver.layer.write.cursor import Cursor, times_of
from graphdriver.layer.write.entry import Folder
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.hard_links import HardLinks
from graphdriver.layer.write.losses import Losses
from graphdriver.layer.write.plain_tree import PlainTree

_NO_ID = 0xFFFFFFFF
"""-1, which chown(2) takes for "leave it"."""

_NOBODY = 65534
"""Who owns what Linux has no number for (DEFAULT_OVERFLOWUID in linux/highuid.h)."""

_NO_NAMES = frozenset({b"", b".", b".."})


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a tar brought.

    ``size`` is the sum of the sizes in its headers, in bytes; ``inodes`` how many files, folders and
    others were made.
    """

    size: int
    inodes: int


def unpack(
    archive: ReadStream,
    root_fd: int,
    *,
    uid_maps: Sequence[IDMap] = (),
    gid_maps: Sequence[IDMap] = (),
    form: Callable[[int], Form] = PlainTree,
) -> Unpacked:
    """Write a layer's tar into a tree.

    When it raises the tree is half done: only removing it is left.

    Args:
        archive: an uncompressed tar; a whole stream of no bytes is an empty layer. It is read to its
            end.
        root_fd: the tree's root, open for reading; it stays the caller's.
        uid_maps: user ids in the tar to those on disk; empty means "the same".
        gid_maps: likewise for groups.
        form: makes what the tree is of its root: `PlainTree`, which holds a copy of the parent's tree
            already, or `graphdriver.layer.overlay.form.UpperDirectory`.

    Raises:
        BadArchiveError: the tar is damaged or hostile; the text names the entry.
        BrokenStreamError: it broke off.
        UnsupportedError: the filesystem cannot keep what an entry says.
        GraphDriverError: an id is outside the maps, or the disk is full.
        OSError: the tree itself cannot be worked on.
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
        raise_about(entry, error, root_fd)
    finally:
        unpacker.close()
    return Unpacked(size, unpacker.inodes)


class _Unpacker:
    """Makes entries, one after the other, in a tree."""

    def __init__(
        self,
        root_fd: int,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
        form: Form,
    ) -> None:
        self._root = Resolver(root_fd)
        self._uid_maps = uid_maps
        self._gid_maps = gid_maps
        self._form = form
        self._losses = Losses()
        self._cursor = Cursor(self._root, form, uid_maps, gid_maps)
        self._made = 0
        self._head: bytes | None = None
        self._links = HardLinks(self._cursor, form)
        self._link_targets = False

    @property
    def inodes(self) -> int:
        """How many things were made so far."""
        return self._made + self._cursor.inodes

    def add(self, entry: Entry, data: place.Data) -> None:
        """Make one entry."""
        head, _, name = entry.name.rstrip(b"/").rpartition(b"/")
        odd = name in _NO_NAMES
        cursor = self._cursor
        folder = cursor.folder
        if folder is None or odd or head != self._head:
            parts = clean(entry.name)
            if not parts:
                self._describe_root(entry)
                return
            name = parts.pop()
            if parts and not self._is_content(parts):
                return
            folder = cursor.enter(parts)
            self._head = None if odd else head
        if name.startswith(whiteout.PREFIX):
            self._delete(folder, name)
            cursor.look_again()
            return
        self._check(entry)
        made = True
        match entry.type:
            case EntryType.FILE:
                self._make_file(folder, name, entry, data)
            case EntryType.DIRECTORY:
                self._make_folder(folder, name, entry)
            case EntryType.HARD_LINK:
                made = self._links.make(folder, name, entry)
            case EntryType.CHARACTER_DEVICE if not self._form.can_hold(entry):
                self._losses.note(
                    "deletions",
                    f"{show(entry.name)}: a 0:0 character device is a deletion to overlay"
                    " filesystems: left out",
                )
                self._links.leave_out(folder, name)
                made = False
            case _:
                made = self._make_other(folder, name, entry)
        if made:
            self._links.appeared(folder, name)
            if not folder.is_all_own:
                is_link = entry.type is EntryType.HARD_LINK
                self._form.brought(folder.fd, folder.inode, name, link=is_link)
        if cursor.way_changed:
            cursor.look_again()

    def finish(self) -> None:
        """Make the links that waited, and put everything in order."""
        self._links.finish()
        self._cursor.leave()
        if self._link_targets:
            times = times_of(self._root.fd)
            remove_tree(self._root.fd, whiteout.LINK_TARGETS)
            os.utime(self._root.fd, ns=times)

    def close(self) -> None:
        """Close what is open, done or not."""
        self._form.close()
        self._cursor.close()

    def _is_content(self, parts: list[bytes]) -> bool:
        """Tell whether what is in this folder is to be made, and not AUFS's own affair."""
        for part in parts:
            if part == whiteout.LINK_TARGETS and len(parts) == 1:
                if not self._link_targets:
                    self._cursor.leave()
                    remove_tree(self._root.fd, part)
                    self._link_targets = True
            elif part.startswith(whiteout.META_PREFIX):
                return False
            elif part.startswith(whiteout.PREFIX):
                raise BadArchiveError("a folder on its way is called like a whiteout")
        return True

    def _check(self, entry: Entry) -> None:
        if self._uid_maps:
            entry.uid = to_host(self._uid_maps, entry.uid)
        elif not 0 <= entry.uid < _NO_ID:
            entry.uid = self._nobody(entry, "user", entry.uid)
        if self._gid_maps:
            entry.gid = to_host(self._gid_maps, entry.gid)
        elif not 0 <= entry.gid < _NO_ID:
            entry.gid = self._nobody(entry, "group", entry.gid)
        if entry.damaged_xattr is not None:
            self._losses.note(
                "damaged attributes",
                f"{show(entry.name)}: the attribute {show(entry.damaged_xattr)} is damaged: left out",
            )
        if entry.xattrs:
            for name, why in not_content(entry.xattrs):
                self._losses.note(
                    why.name,
                    f"{show(entry.name)}: the attribute {show(name)} {why.value}: left out",
                )
            entry.xattrs = on_disk(entry.xattrs, self._uid_maps, self._gid_maps)

    def _nobody(self, entry: Entry, kind: str, id: int) -> int:
        """Return who gets an entry whose owner Linux cannot have; chown(2) would cut or ignore it."""
        self._losses.note(
            "owners",
            f"{show(entry.name)}: Linux cannot have the {kind} {id}: it belongs to {_NOBODY}",
        )
        return _NOBODY

    def _describe_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise BadArchiveError("the layer's root cannot be anything but a folder")
        self._check(entry)
        self._cursor.leave()
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._root.fd)
        try:
            place.describe_folder(fd, entry, False, self._losses)
        finally:
            os.close(fd)

    def _delete(self, folder: Folder, name: bytes) -> None:
        if name == whiteout.OPAQUE:
            self._form.hide_all(folder.fd, folder.inode, folder.path)
        elif not name.startswith(whiteout.META_PREFIX):
            self._form.hide(folder.fd, folder.inode, folder.path, whiteout.target(name))

    def _make_file(self, folder: Folder, name: bytes, entry: Entry, data: place.Data) -> None:
        try:
            place.make_file(folder, name, entry, data, self._losses)
        except FileExistsError:
            self._cursor.make_room(folder, name)
            place.make_file(folder, name, entry, data, self._losses)
        self._made += 1

    def _make_other(self, folder: Folder, name: bytes, entry: Entry) -> bool:
        try:
            made = place.make_other(folder, name, entry, self._losses)
        except FileExistsError:
            self._cursor.make_room(folder, name)
            made = place.make_other(folder, name, entry, self._losses)
        self._made += made
        if not made:
            self._links.leave_out(folder, name)
        return made

    def _make_folder(self, folder: Folder, name: bytes, entry: Entry) -> None:
        replaced = None
        new = True
        try:
            fd = place.make_folder(folder.fd, name, folder.inherits)
        except FileExistsError:
            replaced = os.lstat(name, dir_fd=folder.fd)
            new = not stat.S_ISDIR(replaced.st_mode)
            if new:
                self._cursor.make_room(folder, name)
                fd = place.make_folder(folder.fd, name, folder.inherits)
            else:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                fd = os.open(name, flags, dir_fd=folder.fd)
        try:
            if new:
                self._form.folder_made(fd, replaced)
                self._made += 1
            place.describe_folder(fd, entry, new, self._losses)
        finally:
            os.close(fd)
