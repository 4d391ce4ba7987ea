"""What overlay2 reads in upper directories alone, beside what the naive differ finds by its mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from graphdriver import Driver, NaiveDiffDriver
from graphdriver.conformance.kit.tree import Facts
from graphdriver.driver import mounted
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from tests.drivers.conftest import TakeUp
from tests.drivers.layers import apply, layer, read_diff, recorded
from tests.support.overlays import EDITS, Edit

TREE = [
    *(Edit("mkdir", path, "", 0) for path in ("a", "a/a", "a/b", "b")),
    *(Edit("write", path, "", 1) for path in ("a/a/a", "a/b/a", "a/c", "b/a", "b/b", "c")),
]
"""What the trees begin with, so that edits meet something."""


class Naive(NaiveDiffDriver):
    """The naive differ upon the mounts of overlay2."""

    driver_name = "naive"


@pytest.fixture
def driver(take_up: TakeUp) -> Overlay2Driver:
    return take_up()


@pytest.fixture
def naive(driver: Overlay2Driver) -> Iterator[Driver]:
    yield Naive(driver._layers)


def edited(driver: Driver, id: str, parent: str, edits: list[Edit]) -> None:
    driver.create(id, parent, "", {})
    with mounted(driver, id) as root:
        for edit in edits:
            edit.do(Path(root))


def without_times_of_directories(tree: dict[bytes, Facts]) -> dict[bytes, Facts]:
    return {
        path: facts._replace(
            file=b"", mtime_ns=0 if facts.mode.startswith("0o4") else facts.mtime_ns
        )
        for path, facts in tree.items()
    }


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(base=EDITS, one=EDITS, two=EDITS)
@example(base=[], one=[], two=[Edit("replace", "a", "", 0), Edit("write", "a/c", "", 1)])
@example(base=[], one=[Edit("replace", "a", "", 0)], two=[Edit("write", "a/a", "", 1)])
@example(base=[], one=[Edit("remove", "b", "", 0)], two=[Edit("mkdir", "b", "", 0)])
@example(base=[], one=[Edit("remove", "a", "", 0)], two=[Edit("rename", "b", "a", 0)])
@example(base=[], one=[], two=[Edit("open", "b/a", "", 0), Edit("chmod", "b/b", "", 1)])
def test_its_answers_are_the_naive_ones(
    driver: Overlay2Driver, naive: Driver, base: list[Edit], one: list[Edit], two: list[Edit]
) -> None:
    edited(driver, "base", "", [*TREE, *base])
    edited(driver, "one", "base", one)
    edited(driver, "two", "one", two)
    try:
        for parent in ("one", "base", ""):
            assert list(driver.changes("two", parent)) == list(naive.changes("two", parent))
            assert driver.diff_size("two", parent) == naive.diff_size("two", parent)
        for parent in ("base", ""):
            assert read_diff(driver, "two", parent) == read_diff(naive, "two", parent)
        # A native diff holds what was copied up as well, and the times of directories, which are no
        # change to Docker: what it makes of the parent tells.
        apply(driver, "again", "one", read_diff(driver, "two", "one"))
        expected = recorded(driver, "two")
        assert recorded(driver, "again") == expected
        driver.remove("again")
        apply(driver, "again", "one", read_diff(naive, "two", "one"))
        assert without_times_of_directories(
            recorded(driver, "again")
        ) == without_times_of_directories(expected)
    finally:
        for id in ("again", "two", "one", "base"):
            driver.remove(id)


def test_nothing_is_mounted_for_the_direct_parent(
    driver: Overlay2Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(driver, "base", "", [Edit("write", "a", "", 1), Edit("write", "b", "", 1)])
    edited(driver, "one", "base", [Edit("remove", "a", "", 0), Edit("write", "c", "", 2)])

    def refuse(*_: object) -> str:
        raise AssertionError("it was got")

    monkeypatch.setattr(driver, "get", refuse)
    monkeypatch.setattr(driver._layers, "get", refuse)
    assert len(list(driver.changes("one", "base"))) == 2
    assert driver.diff_size("one", "base") == 2
    apply(driver, "again", "base", read_diff(driver, "one", "base"))
    with pytest.raises(AssertionError, match="it was got"):
        driver.changes("one", "")


@pytest.mark.parametrize("options", [[], ["mountopt=xino=on"]], ids=["plain", "xino"])
def test_a_new_directory_hides_nothing_in_a_diff(take_up: TakeUp, options: list[str]) -> None:
    driver = take_up(*options)
    edited(driver, "base", "", [Edit("write", "a", "", 1)])
    layer(driver, "one", "base", lambda root: (root / "new").mkdir())
    assert b".wh." not in read_diff(driver, "one", "base")


def test_a_diff_needs_no_descriptor_for_the_layers_below(
    driver: Overlay2Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(driver, "base", "", [Edit("write", "a", "", 1)])
    edited(driver, "one", "base", [Edit("write", "c", "", 2)])
    monkeypatch.setattr(driver._layers, "opened_below", None)
    assert read_diff(driver, "one", "base")
