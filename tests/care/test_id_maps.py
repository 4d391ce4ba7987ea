"""The maps of a daemon that remaps ids, by the name of its directory and the ranges of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphdriver.care.migration.id_maps import IDMaps, maps_of
from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError


def maps(tmp_path: Path, ranges: str, name: str = "100000.200000") -> IDMaps:
    (tmp_path / "subuid").write_text(ranges)
    (tmp_path / "subgid").write_text(ranges.replace(":100000:", ":200000:"))
    return maps_of(f"/var/lib/docker/{name}", str(tmp_path / "subuid"), str(tmp_path / "subgid"))


def test_a_daemon_that_does_not_remap_has_no_maps(tmp_path: Path) -> None:
    assert maps(tmp_path, "", name="docker") == IDMaps()


def test_the_ranges_of_a_user_follow_each_other(tmp_path: Path) -> None:
    found = maps(tmp_path, "# a comment\nother:1:5\ndockremap:100000:65536\ndockremap:500000:10\n")
    assert found.uids == (IDMap(0, 100000, 65536), IDMap(65536, 500000, 10))
    assert found.gids == (IDMap(0, 200000, 65536), IDMap(65536, 500000, 10))


@pytest.mark.parametrize(
    ("ranges", "why"),
    [
        ("", "no user has"),
        ("dockremap:1:65536\n", "no user has"),
        ("a:100000:65536\nb:100000:1000\n", "several users have"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, ranges: str, why: str) -> None:
    with pytest.raises(GraphDriverError, match=why):
        maps(tmp_path, ranges)


def test_a_missing_file_has_no_ranges(tmp_path: Path) -> None:
    with pytest.raises(GraphDriverError, match="no user has"):
        maps_of("/d/1.1", str(tmp_path / "none"), str(tmp_path / "none"))


def test_maps_that_cover_have_each_id_on_disk_once() -> None:
    ranges = (IDMap(0, 100_000, 65_536), IDMap(65_536, 5, 10))
    found = IDMaps(ranges, ranges[:1]).covering()
    assert found.uids == (
        *ranges,
        IDMap(65_546, 0, 5),
        IDMap(65_551, 15, 99_985),
        IDMap(165_536, 165_536, 2**32 - 1 - 165_536),
    )
    assert sum(one.size for one in found.gids) == 2**32 - 1
    assert IDMaps().covering() == IDMaps()
