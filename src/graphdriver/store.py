"""What drivers share on disk: how a layer appears, how it goes, and what a crash leaves.

A home holds one directory for each layer, named by its ID. What is ours beside them begins with a dot,
which no ID does:

- ``.staging/ID``: a layer that is being made. It becomes ``ID`` by one rename when it is finished.
- ``.trash/NAME``: a layer that is gone. It went there by one rename, and is deleted behind that.
- ``.reserve``: some room, given up for that rename where there is no other.

So a layer is there or not, at every instant. Where there is not even room for that rename, a layer is
deleted where it is. Its directory gets mode 1000 first, by which it is no layer any more.

A layer's directory takes no access control list and no group from the home: what is made in it must be
what the layer says. Its project it does take; what an administrator has set for storage stays.

What an earlier process left is swept when the home is taken up. One layer that cannot be deleted never
holds up another: it is logged, told in the status, and tried again with each later removal and at
each start. A home that nothing can be written to is taken up as it is.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from graphdriver.errors import LayerExistsError, LayerNotFoundError, UnsupportedError
from graphdriver.files.directories import make_own
from graphdriver.files.reserve import Reserve
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import acl, inode_flags, projects
from graphdriver.linux.resources import error_text

_STAGING: Final = ".staging"
TRASH: Final = ".trash"
_RESERVE: Final = ".reserve"
_RESERVED: Final = 1 << 20  # bytes; btrfs counts some 200 KiB of a quota for one rename

_ENDING: Final = stat.S_ISVTX
"""The mode of a directory that is being deleted where it is: one that nobody gives by hand."""

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class Store:
    """The layers' directories in a home.

    Args:
        home: an absolute path; the directory exists.
        group: the gid that may pass through the layers' directories: that of the (remapped) root.
        own: names in the home that the driver uses itself, so that no layer can have them.
        delete: deletes what was a layer's directory, given an open directory and the name in it.
    """

    def __init__(
        self,
        home: str,
        group: int = 0,
        own: Collection[str] = (),
        delete: Callable[[int, bytes], None] = remove_tree,
    ) -> None:
        self.home = home
        self._group = group
        self._own = own
        self._delete = delete
        self._reserve = Reserve(os.path.join(home, _RESERVE), 1, _RESERVED)
        self._ending: set[str] = set()
        """What was a layer, and is not yet deleted where it is."""
        self._left_staged: set[str] = set()
        """What could not be made, and not be taken away either."""
        self._doomed: collections.deque[str] = collections.deque()
        self._undeleted: dict[str, str] = {}
        """What could not be deleted of the trash, and why."""
        self._remover: threading.Thread | None = None
        self._guard = threading.Lock()
        for name in (_STAGING, TRASH):
            make_own(os.path.join(home, name), 0o700)
        self._reserve.make()  # before there is a remover, which makes it too
        self._sweep()

    def path(self, id: str) -> str:
        """Return a layer's directory.

        Raises:
            LayerNotFoundError: there is no such layer.
        """
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        return os.path.join(self.home, id)

    def exists(self, id: str) -> bool:
        """Tell whether there is such a layer."""
        # The slash asks for a directory; access(2) takes half the time of a stat(2), of which there is
        # one in every call.
        return (
            id not in self._own
            and id not in self._ending
            and os.access(f"{self.home}/{id}/", os.F_OK)
        )

    def layers(self) -> list[str]:
        """Return all layers, in no order."""
        names = os.listdir(self.home)
        return [name for name in names if not name.startswith(".") and self.exists(name)]

    def parent_path(self, parent: str) -> str:
        """Return the directory of the layer that another is to stand on.

        Raises:
            LayerNotFoundError: there is no such layer; the text names it as the parent.
        """
        if not self.exists(parent):
            raise LayerNotFoundError(f"parent {parent} does not exist")
        return os.path.join(self.home, parent)

    @contextlib.contextmanager
    def staged(self, id: str) -> Iterator[str]:
        """Make a layer: gives the path of a fresh directory that becomes the layer's when all is well.

        Raises:
            LayerExistsError: there is such a layer.
            UnsupportedError: no layer can have this name.
        """
        if id in self._own:
            raise UnsupportedError(
                f"the driver has a directory of its own called {id}", hint="choose another ID"
            )
        if self.exists(id):
            raise LayerExistsError("the layer exists already", hint="remove it first")
        if id in self._ending:
            self.remove(id)
        staged = os.path.join(self.home, _STAGING, id)
        if id in self._left_staged:
            self._throw_away(_STAGING, id)
            self._left_staged.discard(id)
        os.mkdir(staged, 0o710)
        try:
            self._make_plain(staged)
            yield staged
            # Calls for one ID never overlap, so nobody made it meanwhile; were it there after all,
            # rename(2) refuses, since a layer's directory is never empty.
            os.rename(staged, os.path.join(self.home, id))
        except BaseException:
            try:
                self._throw_away(_STAGING, id)
            except Exception:  # the error that led here is what the caller must know
                self._left_staged.add(id)
                _log.exception("the unfinished layer %s cannot be taken away yet", id)
            raise

    def remove(self, id: str) -> None:
        """End a layer; of one that does not exist, succeed. It needs no room.

        Raises:
            OSError: it cannot be ended; or it could not be deleted where it is, and is ended.
        """
        if id in self._own:
            return
        with contextlib.suppress(FileNotFoundError):
            self._throw_away("", id)
        self._ending.discard(id)

    def settle(self) -> None:
        """Wait until all that was removed so far is deleted, as far as it can be."""
        with self._guard:
            remover = self._remover
        if remover:
            remover.join()

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell of removed layers that could not be deleted; nothing of none."""
        with self._guard:
            reasons = list(self._undeleted.values())
        if not reasons:
            return ()
        count = f"{len(reasons)} removed layer{'s' if len(reasons) > 1 else ''}"
        return (
            ("Undeleted", f"{count} in {self.home}/{TRASH}: {reasons[0]}; tried with each Remove"),
        )

    def _make_plain(self, staged: str) -> None:
        with _opened(staged) as fd, _opened(self.home) as home:
            acl.inherit_nothing(fd, 0o710)
            os.fchown(fd, -1, self._group)
            projects.join_parent(fd, home)

    # --- ways out ---------------------------------------------------------------------------------

    def _throw_away(self, directory: str, name: str) -> None:
        """Take a directory out of the home, or of another one in it, and delete it behind that."""
        # Not counted: in containers, an earlier process had this one's number, and its trash may stay.
        trashed = secrets.token_hex(16)
        try:
            try:
                self._rename(directory, name, trashed)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                with self._reserve.lent() as give:
                    if not give():
                        raise
                    self._rename(directory, name, trashed)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._delete_in_place(directory, name)
        else:
            self._doom(trashed)

    def _rename(self, directory: str, name: str, trashed: str) -> None:
        path = os.path.join(self.home, directory, name)
        target = os.path.join(self.home, TRASH, trashed)
        try:
            os.rename(path, target)
        except FileNotFoundError:
            if not os.path.lexists(path):
                raise
            make_own(os.path.dirname(target), 0o700)  # somebody has removed it
            os.rename(path, target)
        except PermissionError:
            with _opened(os.path.join(self.home, directory)) as above:
                inode_flags.allow_changes_at(above, os.fsencode(name))
            os.rename(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with _opened(os.path.dirname(target)) as trash:
                projects.stop_inheriting(trash)
            os.rename(path, target)

    def _delete_in_place(self, directory: str, name: str) -> None:
        """Delete a directory where it is, beginning with its mode: a start then goes on with it.

        Unlike a rename, that takes no room to speak of on btrfs, nor does deleting.
        """
        with _opened(os.path.join(self.home, directory)) as above:
            if not directory:
                self._ending.add(name)
                os.chmod(name, _ENDING, dir_fd=above)
            self._delete(above, os.fsencode(name))

    # --- the trash --------------------------------------------------------------------------------

    def _doom(self, name: str) -> None:
        """Have something in the trash deleted, by another thread if there can be one."""
        with self._guard:
            self._doomed.append(name)
            if self._remover and self._remover.is_alive():
                return
            remover = threading.Thread(target=self._delete_doomed, name="remover", daemon=True)
            try:
                remover.start()
            except (RuntimeError, MemoryError) as error:
                # The layer is gone all the same, so whoever removed it is not told.
                _log.warning("%s cannot be emptied now: %s", os.path.join(self.home, TRASH), error)
                self._undeleted |= dict.fromkeys(self._doomed, str(error))
                self._doomed.clear()
            else:
                self._remover = remover

    def _delete_doomed(self) -> None:
        with self._guard:
            self._doomed.extend(self._undeleted)
        while (name := self._next_doomed()) is not None:
            try:
                with _opened(os.path.join(self.home, TRASH)) as trash:
                    self._delete(trash, os.fsencode(name))
            except Exception as error:
                with self._guard:
                    is_known = name in self._undeleted
                    self._undeleted[name] = _reason(error)
                if not is_known:
                    _log.exception("%s/%s/%s cannot be deleted", self.home, TRASH, name)
            else:
                with self._guard:
                    self._undeleted.pop(name, None)
                self._reserve.make()

    def _next_doomed(self) -> str | None:
        """Return what is to be deleted next; if there is nothing, the thread must end."""
        with self._guard:
            if self._doomed:
                return self._doomed.popleft()
            self._remover = None
            return None

    def _sweep(self) -> None:
        for name in os.listdir(os.path.join(self.home, _STAGING)):
            _log.info("sweeping the unfinished layer %s", name)
            self._sweep_away(_STAGING, name)
        for name in self.layers():
            if stat.S_IMODE(os.stat(os.path.join(self.home, name)).st_mode) == _ENDING:
                _log.info("going on with the removal of the layer %s", name)
                self._ending.add(name)
                self._sweep_away("", name)
        for name in os.listdir(os.path.join(self.home, TRASH)):
            self._doom(name)

    def _sweep_away(self, directory: str, name: str) -> None:
        try:
            self._throw_away(directory, name)
        except OSError as error:  # on a read-only filesystem, most likely
            _log.warning("%s cannot be swept: %s", os.path.join(self.home, directory, name), error)
            if directory:
                self._left_staged.add(name)
        else:
            self._ending.discard(name)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EXDEV:
        return f"something is mounted on {error.filename!r} in it"
    return error_text(error) if isinstance(error, OSError) else str(error)


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
