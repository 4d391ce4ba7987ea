"""What is no small file is told from one that cannot be read now."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from graphdriver.files.small_files import LIMIT, read_object, read_text


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"a": "ä"}')
    assert read_text(str(tmp_path / "file")) == '{"a": "ä"}'
    assert read_object(str(tmp_path / "file")) == {"a": "ä"}
    with pytest.raises(FileNotFoundError):
        read_text(str(tmp_path / "other"))


def test_what_is_no_file_is_damage_and_nobody_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("link")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    for name in os.listdir(tmp_path):
        with pytest.raises(ValueError, match="it is not a"):
            read_text(str(tmp_path / name))


def test_a_file_without_an_end_is_damage(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=f"more than {LIMIT} bytes"):
        read_text(str(tmp_path / "file"))


def test_that_no_descriptor_is_left_says_nothing_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            read_object(str(tmp_path / "file"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
