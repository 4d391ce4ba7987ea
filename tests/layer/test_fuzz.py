"""Some coverage-guided fuzzing; ``make fuzz`` takes as long as it is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.layer.tar import header
from graphdriver.layer.tar.entry import Entry
from tests.layer.fuzz_target import seeds, target
from tests.support.long import LONG

ROOT = Path(__file__).parents[2]
LIMITS = ["-max_total_time=600"] if LONG else ["-runs=30000", "-seed=1"]
"""The gate tries the same inputs each time: what it says of a commit does not depend on luck."""


def test_the_reader_of_headers_withstands_fuzzing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris, the fuzzer, is not there for this Python")
    (tmp_path / "inputs").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.layer.fuzz",
            str(tmp_path / "inputs"),
            *LIMITS,
            f"-artifact_prefix={tmp_path}/",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    # The inputs that caused a failure, and what libFuzzer says besides its progress (``#``).
    failed = [f"{path.name}: {path.read_bytes()!r}" for path in tmp_path.glob("*-*")]
    reported = [line for line in done.stderr.splitlines() if not line.startswith(("#", "INFO"))]
    assert done.returncode == 0, "\n".join([*failed, *reported])
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
