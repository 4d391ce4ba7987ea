"""The counts of gets: those of one home are no other's, and go with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from graphdriver.drivers.overlay.reference_counts import ReferenceCounts


def test_homes_that_are_not_the_same_have_not_the_same_counts(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("a-b", "a%2Fb", "a=b", "x" * 250, "x" * 249)]
    for number, home in enumerate(homes, 1):
        home.mkdir()
        ReferenceCounts(str(home), str(tmp_path / "held")).set("layer", number)
    counts = [
        ReferenceCounts(str(home), str(tmp_path / "held")).get("layer", mounted=True)
        for home in homes
    ]
    assert counts == [1, 2, 3, 4, 5]


def test_the_counts_of_a_home_that_is_gone_go_when_another_one_is_taken_up(tmp_path: Path) -> None:
    held = tmp_path / "held"
    for name in ("gone", "stays"):
        (tmp_path / name).mkdir()
        ReferenceCounts(str(tmp_path / name), str(held)).set("layer", 2)
    (tmp_path / "gone").rmdir()
    look = (
        "from graphdriver.drivers.overlay.reference_counts import ReferenceCounts;"
        f"ReferenceCounts('/', {str(held)!r})"
    )
    subprocess.run(["unshare", "--mount", sys.executable, "-c", look], check=True)
    assert len(os.listdir(held)) == 2  # it may be there where that process does not see it
    stays = ReferenceCounts(str(tmp_path / "stays"), str(held))
    assert len(os.listdir(held)) == 1
    assert stays.get("layer", mounted=True) == 2
