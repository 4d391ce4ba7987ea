"""What is ours has the permissions that it says, under a umask of 0 too."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.linux.folders import make_folders, write_whole


@pytest.fixture(autouse=True)
def _umask_of_a_server() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_on_the_way_has_the_mode(tmp_path: Path) -> None:
    make_folders(str(tmp_path / "a" / "b" / "c"), 0o700)
    assert [mode(tmp_path / one) for one in ("a", "a/b", "a/b/c")] == [0o700] * 3
    make_folders(str(tmp_path / "a" / "b"), 0o755)
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError, match="in the way"):
        make_folders(str(tmp_path / "a"), 0o700)


def test_a_file_is_written_whole_with_its_mode_whatever_was_left_there(tmp_path: Path) -> None:
    (tmp_path / "f.new").symlink_to("/etc/passwd")
    write_whole(str(tmp_path / "f"), "one", 0o600)
    write_whole(str(tmp_path / "f"), "two", 0o600)
    assert (tmp_path / "f").read_text() == "two"
    assert mode(tmp_path / "f") == 0o600
    assert os.listdir(tmp_path) == ["f"]
