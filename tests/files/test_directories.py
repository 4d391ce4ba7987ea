"""What is ours has the permissions that it says, under a umask of 0 too."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.errors import UnsupportedError
from graphdriver.files.directories import make_directories, make_own
from graphdriver.files.small_files import write_whole


@pytest.fixture(autouse=True)
def _umask_of_a_server() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_on_the_way_has_the_mode(tmp_path: Path) -> None:
    make_directories(str(tmp_path / "a" / "b" / "c"), 0o700)
    assert [mode(tmp_path / one) for one in ("a", "a/b", "a/b/c")] == [0o700] * 3
    make_directories(str(tmp_path / "a" / "b"), 0o755)
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError, match=f"{tmp_path}/a"):
        make_directories(str(tmp_path / "a"), 0o700)


def test_a_file_is_written_whole_with_its_mode_whatever_was_left_there(tmp_path: Path) -> None:
    (tmp_path / ".f.new").symlink_to("/etc/passwd")
    write_whole(str(tmp_path / "f"), "one", 0o600)
    write_whole(str(tmp_path / "f"), "two", 0o600)
    assert (tmp_path / "f").read_text() == "two"
    assert mode(tmp_path / "f") == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_directory_of_ours_is_taken_from_those_who_could_change_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own"
    make_own(str(own), 0o700)
    assert (mode(own), caplog.text) == (0o700, "")
    for before, after, what in (
        (0o777, 0o710, "write to it"),
        (0o2770, 0o2710, "write to it"),
        (0o1702, 0o1700, "write to it"),
        (0o755, 0o710, "in"),
    ):
        own.chmod(before)
        make_own(str(own), 0o710)
        assert mode(own) == after
        said = f"{own} had mode {before:04o}, which let other users {what}; it has mode {after:04o}"
        assert said in caplog.text


@pytest.mark.root
def test_a_directory_of_another_user_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(0o777)
    os.chown(own, 1000, -1)
    with pytest.raises(UnsupportedError, match=f"{own} belongs to user 1000.*chown 0 {own}"):
        make_own(str(own), 0o700)
    assert mode(own) == 0o777


def test_what_is_no_directory_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(UnsupportedError, match=f"{name} is in the way"):
            make_own(str(tmp_path / name), 0o700)
