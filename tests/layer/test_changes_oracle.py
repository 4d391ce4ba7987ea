"""Random work in a copy of a random tree, compared by `changes` and by looking at everything."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.layer.conftest import remove
from tests.layer.test_changes import compare
from tests.support.long import times
from tests.support.tree_work import (
    DEEDS,
    TREES,
    Work,
    clock_of,
    grow,
    pass_a_tick,
    told_by_looking_at_everything,
    work,
)


@pytest.mark.parametrize("with_a_stamp", [True, False], ids=["stamp", "no stamp"])
@settings(
    max_examples=times(gate=50, long=750),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tree=TREES, deeds=DEEDS, at_once=st.booleans())
def test_no_work_in_a_copy_is_missed_and_nothing_is_made_up(
    filesystem: Path,
    with_a_stamp: bool,
    tree: dict[str, object],
    deeds: list[tuple[Work, int, int, bytes]],
    at_once: bool,
) -> None:
    place = Path(tempfile.mkdtemp(dir=filesystem))
    try:
        lower, upper = place / "lower", place / "upper"
        lower.mkdir()
        grow(lower, tree)
        subprocess.run(["cp", "-a", str(lower), str(upper)], check=True)
        if with_a_stamp and not at_once:
            pass_a_tick(place)
        stamp = clock_of(place) if with_a_stamp else None
        if with_a_stamp and not at_once:
            pass_a_tick(place)
        for deed in deeds:
            work(upper, deed)
        told = compare(upper, lower, untouched=stamp)
        assert sorted(told) == sorted(told_by_looking_at_everything(upper, lower))
    finally:
        remove(place)
