"""Each driver's class tells what a layer changed, without taking up its home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.abilities import ability
from graphdriver.conformance.plugin import tars
from graphdriver.driver import ChangeKind
from graphdriver.drivers.erofs import names
from graphdriver.drivers.loading import load
from graphdriver.errors import GraphDriverError
from graphdriver.homes import ReadsChanges, SizedChange
from tests.drivers.conftest import TakeUpErofs
from tests.drivers.every import serving
from tests.drivers.layers import apply, layer
from tests.support.two_layers import TAR_A, TAR_B

pytestmark = pytest.mark.root

PARENTS = {"base": "", "middle": "base", "top": "middle"}


def write_on_top(root: Path) -> None:
    """Change, replace and delete what the two layers below have."""
    (root / "new").write_text("new")
    (root / "noted").write_text("another note")
    (root / "passwd").unlink()
    (root / "gone" / "above").unlink()
    (root / "gone").rmdir()
    (root / "gone").write_text("a file now")
    (root / "bin" / "tool").unlink()
    (root / "bin").rmdir()
    (root / "bin").mkdir()


@pytest.fixture
def served(name: str, data_root: Path) -> Iterator[Driver]:
    """A driver with three layers in its home: ``top`` on ``middle`` on ``base``."""
    with serving(name, data_root) as driver:
        apply(driver, "base", "", TAR_A)
        apply(driver, "middle", "base", TAR_B)
        layer(driver, "top", "middle", write_on_top)
        yield driver


def read(name: str, home: Path, id: str) -> dict[str, SizedChange]:
    reads = ability(load(name), ReadsChanges)
    assert reads is not None
    found = list(reads.stored_changes(str(home), id, PARENTS[id]))
    by_path = {change.path.rstrip("/"): change for change in found}
    assert len(by_path) == len(found), "each path once"
    return by_path


@pytest.mark.parametrize("id", PARENTS)
def test_the_changes_are_those_that_the_served_driver_finds(
    name: str, served: Driver, data_root: Path, id: str
) -> None:
    found = read(name, data_root, id)
    files = {path: one.kind for path, one in found.items() if not is_changed_directory(one)}
    changes = {change.path: change.kind for change in served.changes(id, PARENTS[id])}
    directories = changes.keys() - files.keys()
    assert files == {path: kind for path, kind in changes.items() if path not in directories}
    assert all(changes[path] is ChangeKind.MODIFIED for path in directories)
    assert directories <= {"/etc", "/gone", "/bin"}


def is_changed_directory(change: SizedChange) -> bool:
    return change.kind is ChangeKind.MODIFIED and change.path.endswith("/")


def test_added_and_changed_files_have_sizes(name: str, served: Driver, data_root: Path) -> None:
    base = read(name, data_root, "base")
    assert base["/etc/passwd"].size == 22
    assert base["/again"].size + base["/bin/tool"].size == 500, "linked files are counted once"
    assert base["/etc"] == SizedChange("/etc/", ChangeKind.ADDED, 0)
    assert read(name, data_root, "top")["/noted"].size == len("another note")


def test_nothing_is_written_or_mounted(name: str, served: Driver, data_root: Path) -> None:
    def state() -> tuple[set[str], list[str]]:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        names = {str(path) for path in data_root.rglob("*")}
        return names, [line for line in mounts if str(data_root) in line]

    before = state()
    read(name, data_root, "top")
    assert state() == before


def test_erofs_tells_what_an_opaque_directory_hides(stored: TakeUpErofs, tmp_path: Path) -> None:
    driver = stored()
    apply(
        driver,
        "base",
        "",
        tars.tar(
            tars.file(b"a/one", b"1"),
            tars.file(b"a/deep/two", b"22"),
            tars.file(b"a/kept/three", b"333"),
        ),
    )
    apply(
        driver,
        "middle",
        "base",
        tars.tar(
            tars.directory(b"a"),
            tars.whiteout(b"a/.wh..wh..opq"),
            tars.file(b"a/kept/four", b"4444"),
        ),
    )
    found = read("erofs", tmp_path, "middle")
    assert {path for path, one in found.items() if one.kind is ChangeKind.DELETED} == {
        "/a/one",
        "/a/deep",
        "/a/kept/three",
    }
    assert found["/a/kept/four"] == SizedChange("/a/kept/four", ChangeKind.ADDED, 4)


def test_erofs_lists_no_more_names_than_memory_has_room_for(
    stored: TakeUpErofs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of a tar name directories whose names are 4 KiB long, one in the other."""
    deep = [tars.file(b"%d/" % number + b"a/" * 45 + b"file", b"") for number in range(4)]
    driver = stored()
    apply(driver, "base", "", tars.tar(*deep[:2]))
    apply(driver, "middle", "base", tars.tar(*deep[2:]))
    monkeypatch.setattr(names, "MOST", 10_000)
    with pytest.raises(GraphDriverError, match="its paths and those below it take over"):
        read("erofs", tmp_path, "base")
    monkeypatch.setattr(names, "MOST", 25_000)
    assert len(read("erofs", tmp_path, "base")) == 2 * 47
    with pytest.raises(GraphDriverError, match="its paths and those below it take over"):
        read("erofs", tmp_path, "middle")


def test_erofs_names_a_damaged_record(stored: TakeUpErofs, tmp_path: Path) -> None:
    apply(stored(), "base", "", TAR_A)
    os.truncate(tmp_path / "base/layer.json", 10)
    with pytest.raises(GraphDriverError, match=r"layer\.json is damaged"):
        read("erofs", tmp_path, "base")
