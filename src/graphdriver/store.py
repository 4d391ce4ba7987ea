"""The layers' directories in a home: how a layer appears and disappears, and what a crash leaves.

A home holds one directory for each layer, named by its ID. The store's own names begin with a dot, and
no ID does:

``.staging/ID``
    A layer that is being made. It becomes ``ID`` by one rename when it is finished. A kill before
    the rename leaves it here; the next start removes it.
``.trash/NAME``
    A layer that was removed. One rename moves it here; then it is deleted, at once if that takes no
    time, else by a thread. A kill leaves it half deleted; the next start deletes the rest. NAME is
    random and a number.
``.reserve/0``
    1 MiB of allocated room. It is deleted to make room for that rename on a full filesystem, and made
    again after a deletion. If it is missing, the next start or deletion makes it.
``ID`` with mode 1000
    A layer that is being deleted in place, since the filesystem had no room even for the rename.
    The mode is changed first, and from then on this is not a layer; the next start continues the
    deletion.

So at every moment a layer exists as a whole, or does not exist. These renames are not synced: after a
power cut a removed layer may exist again, or a created one may be missing, as on any filesystem. A
layer that was applied is synced by `graphdriver.serving` before the daemon gets an answer.

A layer's directory inherits no access control list and no group from the home, since files in it must
have exactly the attributes of the layer. It does inherit the home's project, so that an administrator's
limit for the home stays in force.

A layer that cannot be deleted does not block others: it is logged, shown in the status, and tried again
with each later removal and at each start. A home that cannot be written to is served unchanged.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from graphdriver.errors import LayerExistsError, LayerNotFoundError, UnsupportedError
from graphdriver.files.directories import OpenDirectory, make_own
from graphdriver.files.reserve import Reserve
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import acl, inode_flags, projects
from graphdriver.linux.resources import error_text

STAGING: Final = ".staging"
TRASH: Final = ".trash"
_RESERVE: Final = ".reserve"
_RESERVED: Final = 1 << 20  # bytes; btrfs counts some 200 KiB of a quota for one rename

DELETING: Final = stat.S_ISVTX
"""The mode of a directory that is being deleted in place; no one sets this mode by hand."""

_MODE: Final = 0o710
"""The mode of a layer's directory."""

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_log = logging.getLogger(__name__)


def layers_in(home: str, own: Collection[str] = ()) -> Iterator[str]:
    """Yield the IDs of all layers in a home, in no order; nothing is written.

    A `Store` of this or of another process may make and remove layers meanwhile.

    Args:
        home: the home.
        own: names in the home that the driver uses itself.

    Raises:
        OSError: the home cannot be read.
    """
    for name in os.listdir(home):
        if name.startswith(".") or name in own:
            continue
        with contextlib.suppress(OSError):  # it was removed meanwhile, or is a dangling link
            mode = os.stat(f"{home}/{name}").st_mode
            if stat.S_ISDIR(mode) and stat.S_IMODE(mode) != DELETING:
                yield name


class Store:
    """The layers' directories in a home.

    Args:
        home: an absolute path; the directory exists.
        group: the gid that may pass through the layers' directories: that of the (remapped) root.
        own: names in the home that the driver uses itself; no layer can have them.
        delete: deletes a removed layer's directory, given an open directory and the name in it.
        delete_small: the same for a directory that takes no longer than a call may take; returns
            False for others. By default no directory is deleted before the Remove is answered.

    Raises:
        UnsupportedError: one of the store's own directories belongs to another user, or is a file.
        OSError: the home cannot be read, or the store's directories are missing and cannot be made.
    """

    def __init__(
        self,
        home: str,
        group: int = 0,
        own: Collection[str] = (),
        delete: Callable[[int, bytes], None] = remove_tree,
        delete_small: Callable[[int, bytes], bool] = lambda directory, name: False,
    ) -> None:
        self.home = home
        self._group = group
        self._own = own
        self._delete = delete
        self._delete_small = delete_small
        self._reserve = Reserve(os.path.join(home, _RESERVE), 1, _RESERVED)
        # Random, since names made of the PID and a counter could exist already: in a container an
        # earlier process had the same PID.
        self._run = secrets.token_hex(16)
        self._removed = itertools.count()
        self._deleting: set[str] = set()
        """Removed layers that are being deleted in place."""
        self._unswept: set[str] = set()
        """Names in the staging directory that could not be removed so far."""
        self._queue: collections.deque[str] = collections.deque()
        """Names in the trash that the remover deletes next."""
        self._undeleted: dict[str, str] = {}
        """Names in the trash that could not be deleted, with the reason."""
        self._remover: threading.Thread | None = None
        self._guard = threading.Lock()
        """Guards the queue, the reasons and the remover."""
        for name in (STAGING, TRASH):
            make_own(os.path.join(home, name), 0o700)
        self._reserve.make()  # before the sweep starts a remover, which makes it too
        self._sweep()

    def path(self, id: str) -> str:
        """Return a layer's directory.

        Raises:
            LayerNotFoundError: the layer does not exist.
        """
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        return f"{self.home}/{id}"

    def exists(self, id: str) -> bool:
        """Tell whether a layer exists."""
        # The slash makes it fail for a file. access(2) takes half the time of stat(2), and every
        # call of a daemon asks this.
        return (
            id not in self._own
            and id not in self._deleting
            and os.access(f"{self.home}/{id}/", os.F_OK)
        )

    def layers(self) -> list[str]:
        """Return the IDs of all layers, in no order."""
        names = os.listdir(self.home)
        return [name for name in names if not name.startswith(".") and self.exists(name)]

    def parent_path(self, parent: str) -> str:
        """Return the directory of a new layer's parent.

        Raises:
            LayerNotFoundError: the layer does not exist; the text names it as the parent.
        """
        if not self.exists(parent):
            raise LayerNotFoundError(f"parent {parent} does not exist")
        return f"{self.home}/{parent}"

    # --- a new layer ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def staged(self, id: str) -> Iterator[str]:
        """Create a layer: yields the path of a new directory, which becomes the layer's afterwards.

        If the block raises, the directory is removed, and the layer does not exist.

        Raises:
            LayerExistsError: the layer exists.
            UnsupportedError: no layer can have this name, or something else has it in the home.
            OSError: the directory cannot be made or renamed.
        """
        if id in self._own:
            raise UnsupportedError(
                f"the driver has a directory of its own called {id}", hint="choose another ID"
            )
        if self.exists(id):
            raise LayerExistsError("the layer exists already", hint="remove it first")
        if id in self._deleting:
            self.remove(id)
        staged = f"{self.home}/{STAGING}/{id}"
        if id in self._unswept:
            self._discard(STAGING, id)
            self._unswept.discard(id)
        os.mkdir(staged, _MODE)
        try:
            self._set_attributes(staged)
            yield staged
            # Calls for one ID never overlap, so the layer still does not exist. If it did, rename(2)
            # would fail, since a layer's directory is never empty.
            self._show(staged, f"{self.home}/{id}")
        except BaseException:
            try:
                self._discard(STAGING, id)
            except Exception:  # logged only: the caller must get the first error
                self._unswept.add(id)
                _log.exception("the unfinished layer %s cannot be removed yet", id)
            raise

    def _set_attributes(self, staged: str) -> None:
        found = os.lstat(staged)
        with _opened(self.home) as home:
            is_right = (stat.S_IMODE(found.st_mode), found.st_gid) == (_MODE, self._group)
            # Nearly always, since this process makes the directory above it.
            if is_right and not acl.has_acl(staged) and not projects.is_inherited(home):
                return
            with _opened(staged) as fd:
                acl.inherit_nothing(fd, _MODE)
                os.fchown(fd, -1, self._group)
                projects.join_parent(fd, home)

    def _show(self, staged: str, path: str) -> None:
        try:
            os.rename(staged, path)
        except NotADirectoryError as error:
            raise UnsupportedError(
                f"{path} is in the way: it is not a directory",
                hint="move it away, or remove it",
            ) from error

    # --- the end of a layer -----------------------------------------------------------------------

    def remove(self, id: str) -> None:
        """Remove a layer, without free room on disk; succeed if it does not exist.

        Raises:
            OSError: it cannot be removed, and still exists; or it could not be deleted in place,
                and does not exist any more (`exists` tells).
        """
        if id in self._own:
            return
        # A file is not a layer: in a home that was taken over (adopt=yes) it may be anybody's.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(f"{self.home}/{id}").st_mode):
                self._discard("", id)
        self._deleting.discard(id)

    def settle(self) -> None:
        """Wait until each layer that was removed so far is deleted, or cannot be."""
        with self._guard:
            remover = self._remover
        if remover:
            remover.join()

    def status(self) -> Sequence[tuple[str, str]]:
        """Return a line about removed layers that could not be deleted, if there are any."""
        with self._guard:
            reasons = list(self._undeleted.values())
        if not reasons:
            return ()
        count = f"{len(reasons)} removed layer{'s' if len(reasons) > 1 else ''}"
        return (
            ("Undeleted", f"{count} in {self.home}/{TRASH}: {reasons[0]}; tried with each Remove"),
        )

    def _discard(self, directory: str, name: str) -> None:
        """Move a directory from the home, or a directory in it, to the trash, and delete it there.

        On a full filesystem the reserve gives the room for the move; if that is not enough, the
        directory is deleted in place.
        """
        trashed = f"{self._run}-{next(self._removed)}"
        try:
            try:
                self._move_to_trash(directory, name, trashed)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                with self._reserve.lent() as give:
                    if not give():
                        raise
                    self._move_to_trash(directory, name, trashed)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._delete_in_place(directory, name)
        else:
            self._delete_trashed(trashed)

    def _move_to_trash(self, directory: str, name: str, trashed: str) -> None:
        path = os.path.join(self.home, directory, name)
        target = f"{self.home}/{TRASH}/{trashed}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            if not os.path.lexists(path):
                raise
            make_own(os.path.dirname(target), 0o700)  # somebody removed the trash
            os.rename(path, target)
        except PermissionError:
            # Even root cannot rename an immutable directory.
            with _opened(os.path.join(self.home, directory)) as above:
                inode_flags.allow_changes_at(above, os.fsencode(name))
            os.rename(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Project quotas: a directory whose project is inherited accepts only entries of that
            # project.
            with _opened(os.path.dirname(target)) as trash:
                projects.stop_inheriting(trash)
            os.rename(path, target)

    def _delete_in_place(self, directory: str, name: str) -> None:
        """Delete a directory in place, after a change of its mode: a kill leaves no half-deleted layer.

        Unlike a rename, both take almost no room on btrfs.
        """
        with _opened(os.path.join(self.home, directory)) as above:
            if not directory:
                self._deleting.add(name)  # before the mode: other calls must not find the layer
                os.chmod(name, DELETING, dir_fd=above)
            self._delete(above, os.fsencode(name))

    # --- the trash --------------------------------------------------------------------------------

    def _delete_trashed(self, name: str) -> None:
        """Delete a directory in the trash: now if it is small, else behind the answer.

        A thread costs more than the deletion of a small directory, and slows the calls that follow.
        """
        if not self._undeleted:  # else each removal starts the remover, which tries again
            with contextlib.suppress(OSError), _opened(f"{self.home}/{TRASH}") as trash:
                if self._delete_small(trash, os.fsencode(name)):
                    self._reserve.make()
                    return
        self._delete_later(name)

    def _delete_later(self, name: str) -> None:
        """Queue a directory in the trash for the remover, since deleting a large layer takes long."""
        with self._guard:
            self._queue.append(name)
            if self._remover and self._remover.is_alive():
                return
            remover = threading.Thread(target=self._delete_queued, name="remover", daemon=True)
            try:
                remover.start()
            except (RuntimeError, MemoryError) as error:
                # No error: the layer does not exist any more, so the Remove has succeeded.
                _log.warning("%s cannot be emptied now: %s", f"{self.home}/{TRASH}", error)
                self._undeleted |= dict.fromkeys(self._queue, str(error))
                self._queue.clear()
            else:
                self._remover = remover

    def _delete_queued(self) -> None:
        with self._guard:
            self._queue.extend(self._undeleted)
        while (name := self._next_queued()) is not None:
            try:
                with _opened(f"{self.home}/{TRASH}") as trash:
                    self._delete(trash, os.fsencode(name))
            except Exception as error:
                with self._guard:
                    is_known = name in self._undeleted
                    self._undeleted[name] = _reason(error)
                if not is_known:  # once, not with each try
                    unexpected = None if isinstance(error, OSError) else error
                    _log.error(
                        "%s/%s/%s cannot be deleted: %s; tried again with each Remove",
                        *(self.home, TRASH, name, _reason(error)),
                        exc_info=unexpected,
                    )
            else:
                with self._guard:
                    self._undeleted.pop(name, None)
                self._reserve.make()

    def _next_queued(self) -> str | None:
        """Return the next name to delete; None if there is no more, and the thread must end.

        Both happen under one lock: a call that queues a name either finds a remover that will see the
        name, or starts a new one.
        """
        with self._guard:
            if self._queue:
                return self._queue.popleft()
            self._remover = None
            return None

    # --- the sweep at start -----------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove the leftovers of an earlier process; see the module's docstring."""
        for name in os.listdir(f"{self.home}/{STAGING}"):
            _log.info("removing the unfinished layer %s", name)
            self._sweep_one(STAGING, name)
        for name in self.layers():
            if stat.S_IMODE(os.stat(f"{self.home}/{name}").st_mode) == DELETING:
                _log.info("continuing the removal of layer %s", name)
                self._deleting.add(name)
                self._sweep_one("", name)
        for name in os.listdir(f"{self.home}/{TRASH}"):
            self._delete_later(name)

    def _sweep_one(self, directory: str, name: str) -> None:
        try:
            self._discard(directory, name)
        except OSError as error:
            # Usually a read-only filesystem, on which layers can still be read.
            path = os.path.join(self.home, directory, name)
            _log.warning("%s cannot be removed now: %s", path, error)
            if directory:
                self._unswept.add(name)
        else:
            self._deleting.discard(name)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EXDEV:
        return f"something is mounted on {error.filename!r} in it"
    return error_text(error) if isinstance(error, OSError) else str(error)


def _opened(directory: str) -> OpenDirectory:
    return OpenDirectory(os.open(directory, _DIRECTORY))
