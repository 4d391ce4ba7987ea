"""What a home keeps of its layers for people who look: it survives all, and nothing depends on it."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.abilities import Usage
from graphdriver.homes import StoredLayer
from graphdriver.serving import layer_journal, layer_records
from graphdriver.serving.layer_journal import JOURNAL, Entry, LayerJournal
from graphdriver.serving.layer_records import LayerRecord, LayerRecords, read_records
from graphdriver.serving.served_home import ServedHome
from tests.support.full import fill, tmpfs
from tests.support.ground import require
from tests.support.tarbox import TarBox

Serve = Callable[..., ServedHome]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    """Serve the home, after whoever served it before."""
    last: list[ServedHome] = []

    def serve(driver: TarBox | None = None) -> ServedHome:
        while last:
            last.pop().close()
        served = ServedHome(driver or TarBox(), "docker")
        served.claim(str(path))
        served.init_driver()
        last.append(served)
        return served

    yield serve
    while last:
        last.pop().close()


def create(served: ServedHome, id: str, parent: str = "") -> None:
    with served.creating(id, parent):
        served.driver.create(id, parent, "", {})


def known(served: ServedHome) -> dict[str, LayerRecord]:
    return {record.id: record for record in served.layers.all()}


def lines(path: Path) -> list[bytes]:
    return (path / JOURNAL).read_bytes().splitlines()


# --- what is kept ---------------------------------------------------------------------------------


def test_what_is_known_of_a_layer_outlives_a_restart(serve: Serve, path: Path) -> None:
    served = serve()
    create(served, "a")
    served.layers.applied("a", 1000)
    create(served, "b", "a")
    served.layers.counted("b", Usage(4096, 2))
    create(served, "gone", "a")
    served.remove("gone")
    before = known(served)
    assert before.keys() == {"a", "b"}
    assert known(serve()) == before
    assert (before["a"].size, before["b"].parent, before["b"].inodes) == (1000, "a", 2)


def test_gets_count_since_the_start_of_the_process(serve: Serve, path: Path) -> None:
    served = serve()
    create(served, "a")
    served.layers.got("a")
    served.release()  # as after Cleanup
    served.claim(str(path))
    served.init_driver()
    assert (known(served)["a"].gets, known(served)["a"].references) == (1, 0)
    assert known(serve())["a"].gets == 0


def test_each_change_is_one_line(serve: Serve, path: Path) -> None:
    served = serve()
    assert lines(path) == []
    create(served, "a")
    served.layers.applied("a", 5)
    served.remove("a")
    made, filled, removed = (json.loads(line) for line in lines(path))
    assert made.keys() == {"layer", "parent", "created"}
    assert filled.keys() == {"layer", "applied", "size"}
    assert removed == {"layer": "a", "removed": True}
    serve()
    assert lines(path) == []


def test_a_journal_is_written_anew_before_it_is_long(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_journal, "GROWTH", 10_000)
    served = serve()
    create(served, "kept")
    for number in range(1000):
        create(served, f"a{number}")
        served.remove(f"a{number}")
        assert (path / JOURNAL).stat().st_size < 11_000
    assert known(serve()).keys() == {"kept"}


# --- what happens to it ---------------------------------------------------------------------------


def test_a_process_that_is_killed_loses_no_layer(path: Path) -> None:
    code = (
        "import itertools; from graphdriver.serving.served_home import ServedHome;"
        "from tests.support.tarbox import TarBox; s = ServedHome(TarBox(), 'docker');"
        f"s.claim({str(path)!r}); s.init_driver()\n"
        "for n in itertools.count():\n"
        "  with s.creating(f'a{n}', ''): s.driver.create(f'a{n}', '', '', {})\n"
        "  print(n, flush=True)\n"
    )
    made = -1
    for after in (1, 40, 200):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout
            made = max(made, *(int(line) for line in itertools.islice(process.stdout, after)))
            process.kill()
        served = ServedHome(TarBox(), "docker")
        served.claim(str(path))
        served.init_driver()
        there = {entry.name for entry in path.iterdir() if entry.name != ".graphdriver"}
        assert {f"a{number}" for number in range(made + 1)} <= known(served).keys() <= there
        for id in known(served):
            served.remove(id)
        served.close()


def test_a_torn_line_is_ignored_and_the_next_one_is_whole(serve: Serve, path: Path) -> None:
    served = serve()
    for id in ("a", "b", "c"):
        create(served, id)
    with open(path / JOURNAL, "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 7)
    served = serve()
    assert known(served).keys() == {"a", "b"}
    create(served, "d")
    assert known(serve()).keys() == {"a", "b", "d"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0" * 4096,
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"1e999",
        b"[" * 900,
        b"[" * 100_000,
        b'{"layer": "x", "unknown": 1}',
        b'{"layer": "../x"}',
        b'{"layer": ""}',
        b'{"layer": 7}',
        b'{"layer": "x", "parent": "a/b"}',
        b'{"layer": "x", "parent": ["a"]}',
        b'{"layer": "x", "created": -1}',
        b'{"layer": "x", "created": NaN}',
        b'{"layer": "x", "created": 1e300}',
        b'{"layer": "x", "created": "now"}',
        b'{"layer": "x", "size": true}',
        b'{"layer": "x", "size": 1.5}',
        b'{"layer": "x", "size": 99999999999999999999}',
        b'{"layer": "x", "removed": false}',
        b'{"layer": "x", "parent": "' + b"y" * 2000 + b'"}',
    ],
)
def test_a_damaged_line_is_ignored(serve: Serve, path: Path, line: bytes) -> None:
    served = serve()
    create(served, "a")
    os.mkdir(path / "x")
    with open(path / JOURNAL, "ab") as file:
        file.write(line + b'\n{"layer": "a", "size": 7}\n')
    found = known(serve())
    assert found.keys() == {"a"}
    assert found["a"].size == 7


def test_any_bytes_are_read_without_an_error(path: Path) -> None:
    """Changes of single bytes of a journal that is right otherwise, and bytes of no sense."""
    journal = LayerJournal(str(path), lambda: [Entry("a", "b", 1.5, 2.5, 3, 4), Entry("b")])
    (path / ".graphdriver").mkdir(parents=True)
    journal.rewrite()
    right = Path(journal.path).read_bytes()
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(300):
        damaged = bytearray(right)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        Path(journal.path).write_bytes(damaged)
        entries = journal.read()
        assert entries is not None
        for record in read_records(entries).values():
            assert record.size is None or 0 <= record.size < 1 << 63


@pytest.mark.parametrize("there", ["a directory", "a FIFO", "a link", "too long"])
def test_what_is_no_journal_keeps_nobody_from_serving(
    serve: Serve, path: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(serve(), "a")
    (path / JOURNAL).unlink()
    if there == "a directory":
        (path / JOURNAL).mkdir()
    elif there == "a FIFO":
        os.mkfifo(path / JOURNAL)
    elif there == "a link":
        (path / JOURNAL).symlink_to(path / "elsewhere")
    else:
        monkeypatch.setattr(layer_journal, "LIMIT", 10)
        (path / JOURNAL).write_bytes(b'{"layer": "a"}\n')
    served = serve()
    create(served, "b")
    assert "b" in known(served)
    served.remove("b")
    assert not (path / "elsewhere").exists()


def test_a_journal_of_too_many_layers_takes_no_more_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_records, "_MOST", 10)
    assert len(read_records(Entry(f"a{number}") for number in range(1000))) == 10


# --- where it cannot be written -------------------------------------------------------------------


@pytest.mark.root
def test_on_a_full_disk_no_call_fails_and_all_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    require(os.geteuid() == 0, "mounts need root")
    monkeypatch.setattr(layer_journal, "RETRY", 0.0)
    with tmpfs(tmp_path / "full", 100) as full:
        served = ServedHome(TarBox(), "docker")
        served.claim(f"{full}/home")
        served.init_driver()
        for number in range(300):
            create(served, f"a{number}")
            if number == 100:
                fill(full)
        assert len([text for text in caplog.messages if "cannot be written" in text]) == 1
        assert len(known(served)) == 300
        (full / "filler").unlink()
        create(served, "last")
        served.close()
        served.claim(f"{full}/home")
        served.init_driver()
        assert len(known(served)) == 301
        served.close()


@pytest.mark.root
def test_a_home_on_a_read_only_filesystem_is_served_with_what_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require(os.geteuid() == 0, "mounts need root")
    with tmpfs(tmp_path / "disk", 100) as disk:
        served = ServedHome(TarBox(), "docker")
        served.claim(f"{disk}/home")
        served.init_driver()
        create(served, "a")
        # No file of the home is open for writing: the kernel would refuse this.
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        served.close()
        served = ServedHome(TarBox(), "docker")
        served.claim(f"{disk}/home")
        served.init_driver()
        assert known(served).keys() == {"a"}
        served.close()
        assert caplog.messages == []
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


# --- the driver decides ---------------------------------------------------------------------------


def test_a_layer_that_was_removed_without_a_line_is_forgotten(serve: Serve, path: Path) -> None:
    served = serve()
    create(served, "a")
    create(served, "b")
    served.driver.remove("a")  # and then a kill
    assert known(serve()).keys() == {"b"}
    assert len(lines(path)) == 1


class ReadsItsHome(TarBox):
    """A driver that knows its layers."""

    driver_name = "TarBox"

    def stored_layers(self, home: str) -> Sequence[StoredLayer]:
        return [StoredLayer("a", "", f"{home}/a", Usage(10, 1)), StoredLayer("b", "a", f"{home}/b")]


def test_layers_from_before_the_journal_are_known(serve: Serve, path: Path) -> None:
    served = serve()
    create(served, "a")
    create(served, "b", "a")
    served.close()
    (path / JOURNAL).unlink()
    found = known(serve(ReadsItsHome()))
    assert found == {"a": LayerRecord("a", "", size=10, inodes=1), "b": LayerRecord("b", "a")}


class Stuck(TarBox):
    """A driver that cannot tell what exists."""

    driver_name = "TarBox"

    def exists(self, id: str) -> bool:
        raise SystemExit(3)


def test_a_driver_that_cannot_tell_what_exists_is_served(serve: Serve, path: Path) -> None:
    create(serve(), "a")
    assert known(serve(Stuck())).keys() == {"a"}


def test_a_slow_driver_is_not_asked_for_every_layer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    for number in range(20):
        create(served, f"a{number}")
    monkeypatch.setattr(layer_records, "PATIENCE", 0.0)
    asked: list[str] = []

    class Counts(TarBox):
        driver_name = "TarBox"

        def exists(self, id: str) -> bool:
            asked.append(id)
            return super().exists(id)

    assert len(known(serve(Counts()))) == 20
    assert len(asked) == 1


def test_records_without_a_home_are_kept_in_memory() -> None:
    records = LayerRecords()
    records.created("a", "")
    records.removed("a")
    assert len(records) == 0
