"""A store in a directory, which all nodes mount: NFS, CephFS, Lustre, or one machine's own disk.

An object is written under another name in ``.new`` first, and synced. Its own name is a hard link then,
which fails if there is one already; where there are no hard links (some FUSE filesystems), it is
renamed, which replaces an equal one at most.

A directory on which nothing is mounted yet must not be taken for a store: a later mount would hide what
a node writes there. So a directory is a store once it has the directory ``chains``, which the first
``graphdriver share push`` makes. It is opened for each call: a store may be mounted, or come back, at
any time, and nothing here keeps it from being unmounted.

Root has no rights of its own on NFS that maps it to nobody (root_squash). So errors name the right that
is missing, and the path.

Whoever may write to the directory may replace anything in it. So nothing is followed out of it, and
nothing but regular files is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.errors import BadArchiveError, UnsupportedError
from graphdriver.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from graphdriver.linux.regular_file import open_beneath
from graphdriver.shared.keys import CHAINS, LEASES, digest_of
from graphdriver.shared.store import AwayError, DeniedError, NotStoredError, Stored

REMOVED: Final = ".removed"
"""The end of an object's name while it is removed."""

_NEW: Final = ".new"
_MARK: Final = CHAINS.rstrip("/")
_DIRECTORIES: Final = re.compile(
    r"\.new|leases"
    r"|(?:leases/)?(?:chained|chains|(?:(?:chained|chains)/)?sha256(?:/[0-9a-f]{2})?)"
    r"|leases/(?:chained/)?sha256/[0-9a-f]{2}/[0-9a-f]{64}(?:\.v\d+)?\.erofs"
)
_PIECE: Final = 1 << 20
_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_READ: Final = "read"
_WRITE: Final = "write in"
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_OBJECT: Final = (errno.EINVAL, errno.ELOOP, errno.EXDEV)
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class DirectoryStore:
    """A `graphdriver.shared.store.Store` in a directory.

    All calls raise `AwayError` while no store is there, and `DeniedError` if a right is missing there.

    Args:
        path: an absolute path.
        may_be_new: whether a directory without ``chains`` is a new store. A directory that does not
            exist is none: it may be that of a mount which is missing.

    Raises:
        UnsupportedError: it is something else than a directory.
    """

    def __init__(self, path: str, *, may_be_new: bool = False) -> None:
        self.address = path
        self._may_be_new = may_be_new
        if os.path.exists(path) and not os.path.isdir(path):
            raise UnsupportedError(
                f"the store {path} is not a directory", hint="give the directory that nodes mount"
            )

    @property
    def in_place(self) -> DirectoryStore:
        """See `graphdriver.shared.store.Store`."""
        return self

    def close(self) -> None:
        """Do nothing: nothing is open between calls."""

    def size(self, key: str) -> int:
        """See `graphdriver.shared.store.Store`."""
        fd = self.open(key)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def read(self, key: str, start: int = 0) -> ClosableStream:
        """See `graphdriver.shared.store.Store`. The object counts as used now."""
        fd = self.open(key)
        with contextlib.suppress(OSError):  # a store that is read-only here
            os.utime(fd)
        file = os.fdopen(fd, "rb", buffering=0)
        file.seek(start)
        return file

    def open(self, key: str) -> int:
        """Open an object's file for reading; the caller closes the descriptor.

        Raises:
            NotStoredError: there is no such object.
            BadArchiveError: it is not a regular file, or a link is on the way to it.
        """
        with self._root() as root, _allowed(_READ, key):
            try:
                return open_beneath(root, key)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise NotStoredError(key) from error
            except OSError as error:
                if error.errno not in _NO_OBJECT:
                    raise
                raise BadArchiveError(
                    f"{self.address}: {key} is no object of a store: {error.strerror}",
                    hint="remove it there",
                ) from error

    def put(self, key: str, content: ReadStream) -> bool:
        """See `graphdriver.shared.store.Store`."""
        with contextlib.suppress(NotStoredError):
            self.size(key)
            return False
        head, _, name = key.rpartition("/")
        fresh = f"{secrets.token_hex(16)}.{name}"
        with contextlib.ExitStack() as held:
            with _named(key):
                root = held.enter_context(self._root())
                held.enter_context(_made(root, _MARK))
                new = held.enter_context(_made(root, _NEW))
                directory = held.enter_context(_made(root, head))
            try:
                _write(new, fresh, content, key)
                with _named(key), _allowed(_WRITE, head):
                    if not _name(new, fresh, directory, name):
                        return False
                    os.fsync(directory)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(fresh, dir_fd=new)
        return True

    def touch(self, key: str) -> None:
        """Count an object as used now.

        Raises:
            NotStoredError: there is no such object.
            OSError: that cannot be noted.
        """
        fd = self.open(key)
        try:
            with _allowed("change", key):
                os.utime(fd)
        finally:
            os.close(fd)

    def stored(self, below: str = "") -> Iterator[Stored]:
        """See `graphdriver.shared.store.Store`. What else is in the directory is left out.

        What was never finished is among them, and what a killed removal left.

        So is what lies in the place of an object: a link, a FIFO.

        Args:
            below: the beginning of keys, up to a slash; ``""``: all objects.

        Raises:
            FileNotFoundError: no key ever had this beginning.
        """
        with self._root() as root:
            now = _now(root)
            waiting = [below.rstrip("/")]
            for above in waiting:  # it grows meanwhile
                with _opened(root, above) as directory, os.scandir(directory) as entries:
                    for entry in entries:
                        path = f"{above}/{entry.name}".lstrip("/")
                        if _DIRECTORIES.fullmatch(path) and entry.is_dir(follow_symlinks=False):
                            waiting.append(path)
                        elif _is_ours(path):
                            with contextlib.suppress(FileNotFoundError), _allowed(_READ, path):
                                found = entry.stat(follow_symlinks=False)
                                yield Stored(path, found.st_size, now - found.st_mtime)

    def remove(self, key: str) -> None:
        """See `graphdriver.shared.store.Store`."""
        head, _, name = key.rpartition("/")
        with (
            _named(key),
            self._root() as root,
            _allowed(_WRITE, head),
            contextlib.suppress(FileNotFoundError),
            _opened(root, head) as directory,
        ):
            _remove(directory, name)

    def remove_unless(self, key: str, is_needed: Callable[[], bool]) -> bool:
        """Remove an object that nobody needs; return whether nobody did.

        Args:
            key: its key; succeeds if there is no such object. That of an object whose removal a kill
                has ended continues it.
            is_needed: asked when nobody can open the object any more. If it is needed, it gets its key
                back. A kill in between leaves it with `REMOVED` behind its key.
        """
        head, _, name = key.removesuffix(REMOVED).rpartition("/")
        aside = f"{name}{REMOVED}"
        with (
            _named(key),
            self._root() as root,
            _allowed(_WRITE, head),
            contextlib.suppress(FileNotFoundError),
            _opened(root, head) as directory,
        ):
            if not key.endswith(REMOVED):
                os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
            try:
                needed = is_needed()
            except Exception:
                _put_back(directory, aside, name)
                raise
            if needed:
                _put_back(directory, aside, name)
                return False
            _remove(directory, aside)
        return True

    @contextlib.contextmanager
    def _root(self) -> Iterator[int]:
        try:
            root = os.open(self.address, _DIRECTORY | os.O_CLOEXEC)
        except PermissionError as error:
            raise _denied(_READ, self.address, error) from error
        except OSError as error:
            raise AwayError(
                f"{self.address} cannot be opened: {error.strerror}; mount it, or make the directory"
            ) from error
        try:
            with _allowed("search", ""):
                is_store = self._may_be_new or _is_directory(root, _MARK)
            if not is_store:
                raise AwayError(
                    f"{self.address} has no directory {_MARK}, so it is no store; mount the store"
                    f' there, or make a new one with "graphdriver share push" or mkdir {_MARK}'
                )
            yield root
        except DeniedError as error:
            error.filename = os.path.join(self.address, error.filename).rstrip("/")
            raise
        finally:
            os.close(root)


def _is_ours(key: str) -> bool:
    return key.startswith((f"{_NEW}/", LEASES)) or bool(digest_of(key.removesuffix(REMOVED)))


def _is_directory(root: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _now(root: int) -> float:
    """Return the time by the store's own clock, in seconds since 1970."""
    try:
        with _made(root, _NEW) as new:
            name = f"{secrets.token_hex(16)}.clock"
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=new))
            try:
                return os.stat(name, dir_fd=new).st_mtime
            finally:
                os.unlink(name, dir_fd=new)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        return time.time()  # nothing is removed by it here


@contextlib.contextmanager
def _opened(root: int, path: str) -> Iterator[int]:
    with _allowed(_READ, path):
        fd = openat2(root, os.fsencode(path) or b".", _DIRECTORY | os.O_NOFOLLOW, 0, _INSIDE)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _made(root: int, path: str) -> Iterator[int]:
    """Open a directory, and make those of it that do not exist."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        head = "/".join(parts[: count - 1])
        with (
            _opened(root, head) as above,
            _allowed(_WRITE, head),
            contextlib.suppress(FileExistsError),
        ):
            os.mkdir(parts[count - 1], 0o755, dir_fd=above)
            os.fsync(above)
    with _opened(root, path) as fd:
        yield fd


def _put_back(directory: int, aside: str, name: str) -> None:
    """Give an object that was being removed its name back."""
    _name(directory, aside, directory, name)
    os.fsync(directory)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside, dir_fd=directory)


def _remove(directory: int, name: str) -> None:
    """Remove a file, or an empty directory in the place of one."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=directory)


def _name(new: int, fresh: str, directory: int, name: str) -> bool:
    """Give a finished file its own name, if that is free; return whether it was.

    Where there are no hard links the name is replaced, and the other one is gone.
    """
    try:
        os.link(fresh, name, src_dir_fd=new, dst_dir_fd=directory)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(fresh, name, src_dir_fd=new, dst_dir_fd=directory)
    return True


def _write(directory: int, name: str, content: ReadStream, key: str) -> None:
    """Write a new file, and sync it; errors of that name the object."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    with _named(key), _allowed(_WRITE, _NEW):
        fd = os.open(name, flags, 0o644, dir_fd=directory)
    with os.fdopen(fd, "wb", buffering=0) as file:
        while piece := content.read(_PIECE):
            with _named(key), _allowed(_WRITE, _NEW):
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]
        with _named(key):
            os.fsync(fd)


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    """Let errors of a ``with`` block name an object."""
    try:
        yield
    except (AwayError, DeniedError):
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, key) from error


@contextlib.contextmanager
def _allowed(right: str, path: str) -> Iterator[None]:
    """Let an error of a ``with`` block name a right that is missing, and the path below the store."""
    try:
        yield
    except DeniedError:
        raise
    except PermissionError as error:
        raise _denied(right, path, error) from error


def _denied(right: str, path: str, error: PermissionError) -> DeniedError:
    hint = "on NFS root may be nobody (root_squash)"
    return DeniedError(error.errno, f"{error.strerror}: may not {right} it; {hint}", path)
