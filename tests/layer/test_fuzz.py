"""Some coverage-guided fuzzing; ``make fuzz`` takes as long as it is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.layer.tar import header
from graphdriver.layer.tar.entry import Entry
from tests.layer.fuzz_target import seeds, target
from tests.support.long import times

ROOT = Path(__file__).parents[2]
SECONDS = times(gate=20, long=600)


def test_the_reader_of_headers_withstands_fuzzing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris, the fuzzer, is not there for this Python")
    (tmp_path / "inputs").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.layer.fuzz",
            str(tmp_path / "inputs"),
            f"-max_total_time={SECONDS}",
            f"-artifact_prefix={tmp_path}/",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-5000:] + "".join(
        f"\n{path.name}: {path.read_bytes()!r}" for path in tmp_path.glob("*-*")
    )
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs
    assert int(runs[1]) > len(seeds())
    assert len(list((tmp_path / "inputs").iterdir())) > len(seeds())


def test_every_seed_passes() -> None:
    assert len(seeds()) > 100
    for seed in seeds():
        target(seed)


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes one field for another."""
    right = header.parse

    def wrong(fields: tuple[bytes, ...], block: bytes) -> Entry:
        entry = right(fields, block)
        entry.uid, entry.gid = entry.gid, entry.uid
        return entry

    monkeypatch.setattr(header, "parse", wrong)


@pytest.mark.usefixtures("careless")
def test_a_reader_that_is_wrong_is_caught() -> None:
    with pytest.raises(AssertionError):
        for seed in seeds():
            target(seed)
