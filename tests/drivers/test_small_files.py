"""A small file is there whole or not at all, however little room there is for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.docker.address.spec_files import SpecFile
from graphdriver.docker.daemon import Daemon, InitFile
from graphdriver.docker.messages import InitRequest
from graphdriver.drivers.loading import load
from graphdriver.drivers.overlay.reference_counts import ReferenceCounts
from graphdriver.errors import GraphDriverError
from graphdriver.files.small_files import write_whole
from graphdriver.serving.home import Home
from tests.support.full import PAGE, fill, tmpfs
from tests.support.ground import require

pytestmark = pytest.mark.root

LEFT = range(6)
"""Pages that are free: none, and up to more than any of the files takes."""

LONG = "x" * (3 * PAGE - 100)


def write(place: Path, text: str) -> None:
    write_whole(str(place / "file"), text, 0o600)


def claim(place: Path, driver: str) -> None:
    home = Home(str(place / "home"))
    try:
        home.claim("docker", driver, 1)
    finally:
        home.close()


def remember(place: Path, option: str) -> None:
    InitFile(str(place)).write(Daemon(InitRequest("/home", (option,)), None))


def lead(place: Path, path: str) -> None:
    SpecFile("plugin", f"unix:///{path}", directory=str(place))


def count(place: Path, _text: str) -> None:
    ReferenceCounts("/home", str(place)).set("layer", 1)


WRITERS: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "any": (write, "file"),
    "home.json": (claim, "home/.graphdriver/home.json"),
    "init.json": (remember, "init.json"),
    "NAME.spec": (lead, "plugin.spec"),
    "a count": (count, f"{Path(ReferenceCounts('/home')._directory).name}/layer"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_whole_or_absent_on_a_disk_that_is_nearly_full(name: str, tmp_path: Path) -> None:
    require(os.geteuid() == 0, "a mount needs root")
    put, file = WRITERS[name]
    (tmp_path / "elsewhere").mkdir()
    put(tmp_path / "elsewhere", LONG)
    expected = (tmp_path / "elsewhere" / file).read_text()
    outcomes = set()
    for left in LEFT:
        with tmpfs(tmp_path / str(left), 64) as place:
            fill(place, leave=left)
            try:
                put(place, LONG)
            except (OSError, GraphDriverError):
                assert not (place / file).exists()
                assert not list((place / file).parent.glob(".*.new"))
                outcomes.add("absent")
            else:
                assert (place / file).read_text() == expected
                outcomes.add("whole")
    assert outcomes == {"absent", "whole"}


def test_what_cannot_be_replaced_stays(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "a mount needs root")
    for left in LEFT:
        with tmpfs(tmp_path / str(left), 64) as place:
            write(place, "before")
            fill(place, leave=left)
            try:
                write(place, LONG)
            except OSError:
                assert (place / "file").read_text() == "before"
            else:
                assert (place / "file").read_text() == LONG
            assert sorted(os.listdir(place)) == ["file", "filler"]


def test_a_count_is_changed_where_there_is_no_room(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "a mount needs root")
    with tmpfs(tmp_path / "run", 64) as place:
        ReferenceCounts("/home", str(place)).set("layer", 2)
        fill(place)
        holds = ReferenceCounts("/home", str(place))
        holds.set("layer", 1)
        assert ReferenceCounts("/home", str(place)).get("layer", mounted=True) == 1


@pytest.mark.parametrize("name", ["overlay2", "fuse-overlayfs"])
def test_a_layer_upon_many_stands_on_all_of_them_or_is_not_made(name: str, tmp_path: Path) -> None:
    require(os.geteuid() == 0, "a mount needs root")
    depth = 3 * PAGE // 29  # what one of them takes in the file of those below
    with tmpfs(tmp_path / "tmpfs", 2000) as place:
        home = place / "home"
        home.mkdir()
        driver = load(name)()
        driver.init(str(home), (), (), ())
        driver.create("0", "", "", {})
        for number in range(1, depth):
            driver.create(str(number), str(number - 1), "", {})
        above = str(depth - 1)
        expected = ":".join(
            [f"l/{(home / above / 'link').read_text()}", (home / above / "lower").read_text()]
        )
        assert len(expected) > 2 * PAGE
        outcomes = set()
        for left in LEFT:
            fill(place, leave=left)
            try:
                driver.create("top", above, "", {})
            except (OSError, GraphDriverError):
                assert not driver.exists("top")
                outcomes.add("absent")
            else:
                assert (home / "top/lower").read_text() == expected
                outcomes.add("whole")
            (place / "filler").unlink()
            driver.remove("top")
            driver.create("top", above, "", {})
            driver.remove("top")
            driver._layers._store.settle()  # type: ignore[attr-defined]
            assert not os.listdir(home / ".staging")
        assert outcomes == {"absent", "whole"}
        driver.cleanup()
