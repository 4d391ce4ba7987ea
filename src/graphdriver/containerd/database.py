"""A SQLite database in the root of the layers, written to in one transaction at a time.

- If layers exist, a missing, empty or damaged database is refused before anything is changed; it is
  never taken for a new one.
- A transaction is on disk when `Database.write` returns (WAL, ``synchronous=FULL``).
- The database is locked as long as it is open, so no other process can block a call. With the lock
  SQLite needs no ``-shm`` file, which it would map into memory: on a full btrfs the first write to such
  a page kills the process (SIGBUS). No other code in this process may open the file: closing it would
  end the lock (fcntl(2)).
- Removals work on a full disk (`graphdriver.files.reserve`): to delete a row SQLite writes its log
  first, and to open a database it creates the file of that log.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from graphdriver.errors import GraphDriverError, InUseError, UnsupportedError
from graphdriver.files.reserve import Reserve
from graphdriver.linux.processes import lock_holders

TIMEOUT: Final = 2.0
"""How long a start waits for another process to unlock the database, in seconds."""

RESERVE_FILES: Final = 16
RESERVE_SIZE: Final = 128 << 10
"""Bytes of each file of the reserve, which is more than one removal writes."""

_PAUSE: Final = 0.02
_PRAGMAS: Final = (
    "journal_mode=WAL",  # after the lock: so its index is in this process's own memory
    "synchronous=FULL",
    "foreign_keys=ON",
    # The log, and what it adds to the database, stay smaller than the reserve: 200 pages of 4 KiB.
    "wal_autocheckpoint=200",
)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DISK: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""A quota makes it an I/O error; where there are no inodes left a file cannot be opened."""
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

T = TypeVar("T")


class Run(Protocol):
    """The type of `sqlite3.Connection.execute`."""

    def __call__(self, sql: str, values: tuple[object, ...] = (), /) -> sqlite3.Cursor:
        """Run one statement."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables of a database.

    Attributes:
        version: kept as SQLite's ``user_version``, more than 0.
        statements: create the tables, in this order.
        check: reads all rows; raises a ValueError if one is impossible.
    """

    version: int
    statements: Sequence[str]
    check: Callable[[Run], object]


class Database:
    """A database, and its reserve of disk space.

    Args:
        path: its file; it is made if it does not exist.
        layout: its tables.
        layers: the layers that exist already; if there are any, no new database is made.

    Raises:
        GraphDriverError: it is damaged, or is missing though layers exist; nothing was changed.
        InUseError: another process has locked it; the text names that process.
        UnsupportedError: it was made by another version.
    """

    def __init__(self, path: str, layout: Layout, layers: Sequence[str] = ()) -> None:
        self.path = path
        self._layout = layout
        self._guard = threading.Lock()
        self._reserve = Reserve(f"{path}.reserve", RESERVE_FILES, RESERVE_SIZE)
        try:
            self._connection = self._open_with_room(layers)
        except (sqlite3.DatabaseError, MemoryError) as error:
            raise self._error_of(error) from error
        self.keep_reserve()

    def close(self) -> None:
        """Close the database, and make the reserve again in the room that the log took."""
        with self._guard:
            self._connection.close()
        self.keep_reserve()

    def keep_reserve(self) -> None:
        """Make the reserve again if it was used and there is room now."""
        self._reserve.make()

    # --- opening ----------------------------------------------------------------------------------

    def _open_with_room(self, layers: Sequence[str]) -> sqlite3.Connection:
        try:
            return self._retried_while_locked(lambda: self._open(layers))
        except sqlite3.OperationalError as error:
            if _code(error) not in _NO_ROOM:
                raise
        return self._with_reserve(lambda: self._retried_while_locked(lambda: self._open(layers)))

    def _with_reserve(self, attempt: Callable[[], T]) -> T:
        """Release the reserve piece by piece until there is room for the attempt."""
        with self._reserve.lent() as give:
            while True:
                try:
                    return attempt()
                except sqlite3.OperationalError as error:
                    if _code(error) not in _NO_ROOM or not give():
                        raise

    def _retried_while_locked(self, attempt: Callable[[], T]) -> T:
        """Try again, for `TIMEOUT` seconds, while another process has locked the database."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE)

    def _open(self, layers: Sequence[str]) -> sqlite3.Connection:
        if layers and not os.path.exists(self.path):
            raise self._lost("missing", layers)
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            run = connection.execute
            run("PRAGMA locking_mode=EXCLUSIVE")
            there = self._is_whole(run)
            if layers and not there:
                raise self._lost("empty", layers)
            for pragma in _PRAGMAS:
                run(f"PRAGMA {pragma}")
            if not there:
                run("BEGIN IMMEDIATE")
                for statement in self._layout.statements:
                    run(statement)
                run(f"PRAGMA user_version={self._layout.version}")
                run("COMMIT")
        except ValueError as error:  # text that is not UTF-8, among others
            connection.close()
            raise self.damaged(str(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_whole(self, run: Run) -> bool:
        (version,) = run("PRAGMA user_version").fetchone()
        found = {text for (text,) in run("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
        if not version and not found:
            return False
        if version != self._layout.version:
            raise UnsupportedError(
                f"{self.path} has version {version}, and this graphdriver knows version"
                f" {self._layout.version}",
                hint="use the graphdriver that made it, or another root",
            )
        if not {text.strip() for text in self._layout.statements if "CREATE" in text} <= found:
            raise self.damaged("its tables are not those of this version")
        (verdict,) = run("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise self.damaged(verdict)
        if run("PRAGMA foreign_key_check").fetchone():
            raise self.damaged("a snapshot has a parent that does not exist")
        self._layout.check(run)
        return True

    # --- reading and writing ----------------------------------------------------------------------

    def read(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return all rows of a query.

        Raises:
            GraphDriverError: the database cannot be read.
        """
        try:
            with self._guard:
                return self._connection.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._error_of(error) from error
        except ValueError as error:
            raise self.damaged(str(error)) from error

    def write(self, work: Callable[[Run], T], *, frees: bool = False) -> T:
        """Do some work in a transaction that is on disk afterwards.

        Args:
            work: gets a function that runs SQL; may be called again from its beginning.
            frees: whether the work makes room, and so may use the reserve.

        Raises:
            GraphDriverError: the database cannot be written to.
        """
        try:
            try:
                return self._transact(work)
            except sqlite3.OperationalError as error:
                if not frees or _code(error) not in _NO_ROOM:
                    raise
            return self._with_reserve(lambda: self._transact_anew(work))
        except sqlite3.DatabaseError as error:
            raise self._error_of(error) from error
        finally:
            self.keep_reserve()

    def _transact(self, work: Callable[[Run], T]) -> T:
        with self._guard:
            run = self._connection.execute
            run("BEGIN IMMEDIATE")
            try:
                done = work(run)
                run("COMMIT")
            except BaseException:
                # Without room SQLite has rolled back already, and refuses another ROLLBACK.
                if self._connection.in_transaction:
                    run("ROLLBACK")
                raise
            return done

    def _transact_anew(self, work: Callable[[Run], T]) -> T:
        """Run a transaction with an emptied log, in the room that the log's file has already."""
        with contextlib.suppress(sqlite3.OperationalError), self._guard:
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return self._transact(work)

    # --- errors -----------------------------------------------------------------------------------

    def _error_of(self, error: sqlite3.DatabaseError | MemoryError) -> GraphDriverError:
        """Return a SQLite error as an error of ours, with what is wrong and what to do."""
        code = _code(error)
        if code in _BUSY:
            return InUseError(
                f"the database {self.path} is locked by {self._holders()}",
                hint="wait until it has finished, or stop it, and try again",
            )
        # Text that is not UTF-8, and sizes too large for memory, have no code.
        without_code = code is None and not isinstance(error, sqlite3.ProgrammingError)
        if without_code or code in _DAMAGED:
            return self.damaged(str(error) or type(error).__name__)
        if code == sqlite3.SQLITE_FULL:
            return GraphDriverError(
                f"the database {self.path} cannot grow: its filesystem is full",
                hint="free some room there",
            )
        if code in _DISK:
            return GraphDriverError(
                f"the database {self.path} cannot be used: {error}",
                hint="its filesystem is read-only or full, or its disk failed: see dmesg",
            )
        return GraphDriverError(f"the database {self.path} cannot be used: {error}")

    def _holders(self) -> str:
        found: list[str] = []
        with contextlib.suppress(OSError):
            found = lock_holders((self.path, f"{self.path}-shm"))
        return _few(found) if found else "a process that is not visible from here"

    def _lost(self, how: str, layers: Sequence[str]) -> GraphDriverError:
        return GraphDriverError(
            f"there are layers ({_few(layers)}), and the database of their snapshots, {self.path},"
            f" is {how}; nothing was changed",
            hint="restore it from a copy, or use another root",
        )

    def damaged(self, how: str) -> GraphDriverError:
        """Return the error for a damaged database."""
        return GraphDriverError(
            f"the database {self.path} is damaged: {' '.join(how.split())}",
            hint="restore it from a copy, or use another root",
        )


def _code(error: BaseException) -> int | None:
    """Return SQLite's primary code for an error, without the extended part."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
