from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from graphdriver.layer.tree.directory import Dir, LayerDir


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_directory_is_closed_once_and_its_number_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    before = open_descriptors()
    with Dir(os.open(tmp_path, os.O_RDONLY)) as root, root.open(b"d") as below:
        number = below.fd
        below.close()
        assert below.fd == -1
        other = os.open(tmp_path, os.O_RDONLY)  # gets the lowest number that is free
        assert other == number
    os.fstat(other)  # leaving the with statement closed only what was still its own
    os.close(other)
    assert open_descriptors() == before


def test_a_borrowed_number_stays_open(tmp_path: Path) -> None:
    borrowed = os.open(tmp_path, os.O_PATH)
    Dir.at(borrowed).close()
    os.fstat(borrowed)
    os.close(borrowed)


def test_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    with Dir(os.open(tmp_path, os.O_RDONLY)) as root:
        with pytest.raises(NotADirectoryError):
            root.open(b"l")
        found = root.find(b"l")
        assert found is not None
        assert found.st_ino == (tmp_path / "l").lstat().st_ino
        assert root.find(b"nothing") is None
        assert root.names() == [b"d", b"l"]


def test_a_directory_that_cannot_be_made_as_it_should_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("graphdriver.layer.tree.directory.drop_acls", fail)
    with Dir(os.open(tmp_path, os.O_RDONLY)) as root:
        before = open_descriptors()
        with pytest.raises(OSError, match="Input/output error"):
            root.make(b"d", inherits=True)
        assert open_descriptors() == before


def test_a_new_directory_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    with Dir(os.open(tmp_path, os.O_RDONLY)) as root, root.make(b"d", inherits=False) as made:
        assert os.fstat(made.fd).st_mode & 0o777 == 0o700


def test_a_directory_of_a_layer_knows_its_inode(tmp_path: Path) -> None:
    with LayerDir(os.open(tmp_path, os.O_RDONLY), [b"a"]) as directory:
        assert directory.inode == tmp_path.stat().st_ino
