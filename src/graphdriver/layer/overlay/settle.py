"""Settling an upper directory that was filled before the layers below it were known.

Afterwards it is as if the layer's tar had been unpacked above these layers. Only what was noted is
looked at (`graphdriver.layer.overlay.parentless`), so the work does not grow with the layer.

The order of the tar is not known any more. So an entry that the tar has twice, once by a path through a
link of the layers below, is an error.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence

from graphdriver.driver import IDMap
from graphdriver.errors import BadArchiveError
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.overlay.parentless import Unsettled
from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_whiteout, make_opaque
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.layer.tree.directory import Dir, LayerDir
from graphdriver.layer.tree.resolver import Resolver
from graphdriver.layer.write.cursor import Cursor
from graphdriver.layer.write.hard_links import HardLinks
from graphdriver.layer.write.refusals import raise_refused
from graphdriver.linux import xattr


def settle(
    root_fd: int,
    lowers: Sequence[int],
    unsettled: Unsettled,
    *,
    marks: Marks = TRUSTED,
    uid_maps: Sequence[IDMap] = (),
    gid_maps: Sequence[IDMap] = (),
) -> None:
    """Settle what depends on the layers below, but for the metadata of the root.

    After an error the directory is incomplete, and can only be removed.

    Args:
        root_fd: the upper directory; borrowed.
        lowers: the directories below it, nearest first; borrowed.
        unsettled: what was noted.
        marks: where the mount looks for opaque marks.
        uid_maps: as for `graphdriver.layer.unpack.unpack`.
        gid_maps: likewise.

    Raises:
        BadArchiveError: the target of a hard link is not below, or an entry is there twice.
        OSError: something cannot be read or written.
    """
    form = UpperDirectory(root_fd, lowers, marks)
    cursor = Cursor(Resolver(root_fd), form, uid_maps, gid_maps)
    try:
        settling = _Settling(root_fd, form, cursor, unsettled, marks)
        settling.settle_directories()
        settling.make_links()
        settling.drop_deletions()
        if lowers:
            settling.hide_root()
        cursor.leave()
    finally:
        form.close()
        cursor.close()


class _Settling:
    def __init__(
        self,
        root_fd: int,
        form: UpperDirectory,
        cursor: Cursor,
        unsettled: Unsettled,
        marks: Marks,
    ) -> None:
        self._root_fd = root_fd
        self._form = form
        self._cursor = cursor
        self._unsettled = unsettled
        self._marks = marks
        self._resolver = Resolver(root_fd)
        self._joined: set[bytes] = set()
        """Directories that the layer has by another path as well, which says more of them."""

    def settle_directories(self) -> None:
        """Give each directory that the tar does not name what the layers below say of it."""
        for path in sorted(self._unsettled.directories):  # parents first
            if path in self._joined:
                continue
            *above, name = path.split(b"/")
            for here in self._opened(above):
                there = here.find(name)
                below = self._form.look_below(here, name)
                if there is None or not stat.S_ISDIR(there.st_mode) or below is None:
                    continue
                if stat.S_ISDIR(below.stat.st_mode):
                    with below.dir.open(name) as source, here.open(name) as made:
                        copy_metadata(made.fd, os.fstat(source.fd), xattr.get_all(source.fd))
                elif stat.S_ISLNK(below.stat.st_mode):
                    try:
                        self._move_through_link(here, name, path)
                    except OSError as error:
                        raise_refused(Entry(path, EntryType.DIRECTORY), error, self._root_fd)

    def _opened(self, parts: list[bytes]) -> Iterator[LayerDir]:
        """Yield a directory of the layer, unless a later entry of the tar removed it."""
        try:
            found = self._resolver.open(parts)
        except (FileNotFoundError, NotADirectoryError):
            return
        with found:
            yield found

    def _move_through_link(self, here: LayerDir, name: bytes, path: bytes) -> None:
        """Move what is in a directory to where a link of the layers below at its name leads."""
        times = here.times()
        aside = b".%b" % secrets.token_hex(16).encode()
        os.rename(name, aside, src_dir_fd=here.fd, dst_dir_fd=here.fd)
        self._form.note_removed([*here.path, name])
        target = self._cursor.enter(path.split(b"/")).dir  # copies the link up
        self._move(Resolver(here.fd), aside, target, path)
        self._cursor.leave()
        here.set_times(times)

    def _move(self, source: Resolver, aside: bytes, target: LayerDir, path: bytes) -> None:
        """Move all that is in a directory into another one, and remove the empty directory."""
        waiting: list[list[bytes]] = [[]]
        for way in waiting:  # it grows meanwhile
            with source.open_straight([aside, *way]) as old, _below(target, way) as new:
                times = new.times()
                for name in old.names():
                    there, found = new.find(name), old.find(name)
                    if there is None:
                        os.rename(name, name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
                    elif found and stat.S_ISDIR(found.st_mode) and stat.S_ISDIR(there.st_mode):
                        waiting.append([*way, name])
                    else:
                        twice = b"/".join([path, *way, name])
                        raise BadArchiveError(
                            f"{show(twice)} is in the layer twice, once by a path through a link of"
                            " the layers below",
                            hint="unpack the layers one after the other: leave rebase out of the"
                            " capabilities in containerd's configuration",
                        )
                here = b"/".join([path, *way])
                if here in self._unsettled.directories:
                    new.set_times(times)
                    self._joined.add(here)
                else:
                    copy_metadata(new.fd, os.fstat(old.fd), xattr.get_all(old.fd))
                    if is_opaque(old, self._marks):
                        make_opaque(new, self._marks)
                    self._joined.add(b"/".join([*target.path, *way]))
        for way in reversed(waiting):
            *above, name = [aside, *way]
            with source.open_straight(above) as directory:
                os.rmdir(name, dir_fd=directory.fd)

    def make_links(self) -> None:
        """Make the hard links to files that the tar does not have."""
        links = HardLinks(self._cursor, self._form)
        for path, target in self._unsettled.links.items():
            links.wait(path, target, Entry(path, EntryType.HARD_LINK, link=target))
        links.finish()

    def drop_deletions(self) -> None:
        """Remove marks where there is nothing below: whiteouts would be listed as files."""
        self._cursor.leave()
        for path in sorted(self._unsettled.opaque):
            *above, name = path.split(b"/")
            for here in self._opened(above):
                there = here.find(name)
                if there and stat.S_ISDIR(there.st_mode) and not self._form.is_merged(here):
                    with here.open(name) as made:
                        xattr.remove(made.fd, self._marks.opaque)
        for path in sorted(self._unsettled.deletions):
            for here in self._opened(path.split(b"/") if path else []):
                if not self._form.is_merged(here):
                    _remove_whiteouts(here, here.names())

    def hide_root(self) -> None:
        """Delete what the layers below have in the root, if the layer's root is opaque."""
        with LayerDir(os.dup(self._root_fd), []) as root:
            if is_opaque(root, self._marks):
                times = root.times()
                xattr.remove(
                    root.fd, self._marks.opaque
                )  # with it there would be nothing below to delete
                self._form.note_removed([])
                self._form.apply_opaque(root)
                root.set_times(times)


def _below(directory: LayerDir, way: list[bytes]) -> Dir:
    return Resolver(directory.fd).open_straight(way)


def _remove_whiteouts(directory: Dir, names: Iterable[bytes]) -> None:
    times = directory.times()
    for name in names:
        found = directory.find(name)
        if found and is_whiteout(found):
            os.unlink(name, dir_fd=directory.fd)
    directory.set_times(times)
