"""A database that is missing, damaged, or locked by another process; layers never pay for it."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.containerd import database
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError, InUseError
from tests.support.long import times

KEYS = tuple("abcdefgh")


@contextlib.contextmanager
def served(root: Path) -> Iterator[Snapshots]:
    with contextlib.closing(Snapshots(VfsDriver(), str(root), ["sync=none"])) as snapshots:
        yield snapshots


@pytest.fixture
def root(folder: Path) -> Path:
    """A root with some snapshots, each with a layer that holds a file."""
    root = folder / "root"
    with served(root) as snapshots:
        parent = ""
        for key in KEYS:
            (mount,) = snapshots.prepare(key, parent, {"of": key})
            Path(mount.source, "file").write_text(key)
            if key in "aceg":
                snapshots.commit(key.upper(), key, {"is": key})
                parent = key.upper()
        snapshots.view("view", "A", {})
    return root


def database_of(root: Path) -> Path:
    return root / ".graphdriver" / "snapshots.db"


def held_by(root: Path) -> dict[str, bytes]:
    """Return every file, and its content; what SQLite makes to read and empties is left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal")) and path.name != "lock"
    }


def layers(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name.isdecimal())


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_tables(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")


def no_database(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def without_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as there:
        there.execute("PRAGMA user_version=0")


def a_row_is_gone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as there:
        there.execute("DELETE FROM snapshots WHERE key='A'")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing, "is missing"),
        (empty, "is empty"),
        (without_tables, "is empty"),
        (no_database, "is damaged: file is not a database"),
        (without_version, "has version 0"),
        (a_row_is_gone, "has a parent that does not exist"),
    ],
)
def test_a_lost_database_beside_layers_is_told_and_nothing_is_touched(
    root: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(database_of(root))
    before = held_by(root)
    for _ in range(2):
        with pytest.raises(GraphDriverError, match=said) as refused, served(root):
            pass
        assert str(database_of(root)) in str(refused.value)
    assert held_by(root) == before
    assert len(layers(root)) == len(KEYS)


def test_a_root_whose_first_start_was_killed_is_a_new_one(folder: Path) -> None:
    root = folder / "root"
    with served(root):
        pass
    for damage in (missing, empty, without_tables):
        damage(database_of(root))
        with served(root) as snapshots:
            assert snapshots.find(()) == []


def spoil(chance: random.Random, path: Path) -> None:
    """Damage a file as a disk, a crash or a person does."""
    content = bytearray(path.read_bytes())
    page = 4096
    match chance.randrange(6):
        case 0:
            for _ in range(chance.choice((1, 1, 1, 10, 100))):
                content[chance.randrange(len(content))] = chance.randrange(256)
        case 1:
            at = chance.randrange(len(content))
            content[at] ^= 1 << chance.randrange(8)
        case 2:
            at = chance.randrange(len(content) // page) * page
            content[at : at + page] = bytes(page)
        case 3:
            del content[chance.randrange(len(content)) :]
        case 4:
            one, other = (chance.randrange(len(content) // page) * page for _ in range(2))
            first, second = content[one : one + page], content[other : other + page]
            content[one : one + page], content[other : other + page] = second, first
        case _:
            at = chance.randrange(len(content))
            content[at : at + chance.randrange(1, page)] = chance.randbytes(chance.randrange(page))
    path.write_bytes(content)


def test_whatever_bytes_the_database_holds_the_answer_is_one_line_and_no_layer_goes(
    root: Path,
) -> None:
    whole = database_of(root).read_bytes()
    all_layers = layers(root)
    refused = 0
    for seed in range(times(gate=60, long=1000)):
        database_of(root).write_bytes(whole)
        for name in ("-wal", "-shm"):
            database_of(root).with_name(f"snapshots.db{name}").unlink(missing_ok=True)
        spoil(random.Random(seed), database_of(root))
        try:
            with served(root) as snapshots:
                snapshots.find(())
                snapshots.cleanup()
        except GraphDriverError as error:
            refused += 1
            assert "\n" not in str(error), seed
        assert layers(root) == all_layers, seed
    assert refused


def test_a_damaged_database_is_a_line_of_the_command_and_no_traceback(root: Path) -> None:
    no_database(database_of(root))
    words = ["--root", str(root), "--address", str(root.parent / "s.sock")]
    done = subprocess.run(
        [sys.executable, "-m", "graphdriver", "snapshotter", "vfs", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode
    assert "is damaged: file is not a database" in done.stderr
    assert "Traceback" not in done.stderr


# --- locks ----------------------------------------------------------------------------------------

HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute(sys.argv[2])
held.execute("SELECT * FROM snapshots").fetchone()
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(path: Path, statement: str = "BEGIN IMMEDIATE") -> Iterator[int]:
    """Keep a database locked by another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), statement],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN", "PRAGMA locking_mode=EXCLUSIVE"])
def test_a_start_names_who_uses_the_database(
    root: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(database, "TIMEOUT", 0.0)
    before = held_by(root)
    with (
        locked(database_of(root), statement) as pid,
        pytest.raises(InUseError, match=rf"locked by process {pid} \(python"),
        served(root),
    ):
        pass
    assert held_by(root) == before
    with served(root) as snapshots:
        assert snapshots.stat("A")


def test_a_start_waits_for_a_short_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "TIMEOUT", 1e9)
    with contextlib.ExitStack() as held:
        held.enter_context(locked(database_of(root)))
        waits = threading.Timer(0.2, held.close)
        waits.start()
        with served(root) as snapshots:
            assert snapshots.stat("A")
        waits.join()


def test_nobody_locks_a_database_that_is_served(root: Path) -> None:
    with served(root) as snapshots:
        other = subprocess.run(
            [sys.executable, "-c", HOLDER, str(database_of(root)), "PRAGMA busy_timeout=0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "database is locked" in other.stderr
        assert snapshots.stat("A")
        snapshots.prepare("new", "A", {})
        snapshots.remove("new")
        assert not database_of(root).with_name("snapshots.db-shm").exists()
