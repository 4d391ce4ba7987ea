"""One layer takes at most 64 MiB to store, however many entries it has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.layer.erofs.stored_in_memory import KINDS
from tests.support.documented import ROOT
from tests.support.long import times

MOST = 64 << 20


def stored(kind: str, count: int) -> tuple[int, str]:
    """Store a layer in a process of its own; return how far it grew, and what became of the layer."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.layer.erofs.stored_in_memory", kind, str(count), "/dev/shm"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    grown, _, became = done.stdout.strip().partition(" ")
    return int(grown), became


@pytest.mark.parametrize("kind", KINDS)
def test_many_entries_take_little_memory(kind: str) -> None:
    assert stored(kind, times(gate=20_000, long=1_000_000))[0] <= MOST


def test_a_large_layer_is_held() -> None:
    grown, became = stored("packages", times(gate=65_000, long=230_000))
    assert became == "held"
    assert grown <= times(gate=MOST // 2, long=MOST)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["packages", "waiting"])
def test_five_million_entries_take_no_more(kind: str) -> None:
    grown, became = stored(kind, 5_000_000)
    assert grown <= MOST
    assert became != "held"
