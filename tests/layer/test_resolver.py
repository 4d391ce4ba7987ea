from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.resolver import Resolver, clean
from tests.layer.conftest import remove


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Resolver]:
    (tmp_path / "root" / "d" / "e").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    yield Resolver(fd)
    os.close(fd)
    remove(tmp_path / "root")


def is_same(directory: Dir, path: Path) -> bool:
    with directory:
        found, wanted = os.fstat(directory.fd), path.stat()
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def make(directory: Dir, name: bytes) -> None:
    os.mkdir(name, dir_fd=directory.fd)


def test_a_link_that_cannot_be_read_is_not_taken_for_a_missing_directory(
    root: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.symlink("d", "l", dir_fd=root.root_fd)

    def readlink(name: bytes, *, dir_fd: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def refused(directory: Dir, name: bytes) -> None:
        pytest.fail("a directory was to be made in its place")

    monkeypatch.setattr("graphdriver.layer.tree.resolver.os.readlink", readlink)
    with pytest.raises(OSError, match="Input/output error"):
        root.open([b"l"], refused)


@given(st.lists(st.sampled_from([b"", b".", b"..", b"a", b"b"])))
def test_a_cleaned_name_has_no_dots_or_climbs_and_is_refused(parts: list[bytes]) -> None:
    depth = 0
    lowest = 0
    for part in parts:
        depth += {b"..": -1, b"": 0, b".": 0}.get(part, 1)
        lowest = min(lowest, depth)
    if lowest < 0:
        with pytest.raises(BadArchiveError):
            clean(b"/".join(parts))
    else:
        assert len(clean(b"/".join(parts))) == depth
        assert not {b"", b".", b".."} & set(clean(b"/".join(parts)))


@pytest.mark.parametrize(
    "to", ["/d", "../../../../d", "d/../../d", "./d/e/..", "/d/e/../../../d/."]
)
@pytest.mark.parametrize("by_steps", [False, True])
def test_links_stay_inside_however_they_are_resolved(
    tmp_path: Path, root: Resolver, to: str, by_steps: bool
) -> None:
    (tmp_path / "root" / "l").symlink_to(to)
    made = [b"new"] if by_steps else []
    found = root.open([b"l", *made], make)
    assert found.path == [b"d", *made]
    assert is_same(found, tmp_path / "root" / "d" / "new" if by_steps else tmp_path / "root" / "d")


def test_a_path_of_more_bytes_than_the_kernel_takes_is_made_and_found(root: Resolver) -> None:
    parts = [b"x" * 250] * 40
    with root.open(parts, make) as made, root.open(parts) as found:
        assert made.inode == found.inode


def test_more_than_255_missing_folders_are_made(root: Resolver) -> None:
    root.open([b"y"] * 1000, make).close()


@pytest.mark.parametrize("maker", [None, make])
def test_a_loop_of_links_is_an_error(tmp_path: Path, root: Resolver, maker: object) -> None:
    (tmp_path / "root" / "a").symlink_to("b")
    (tmp_path / "root" / "b").symlink_to("a")
    with pytest.raises(OSError) as error:
        root.open([b"a", b"c"], make if maker else None)
    assert error.value.errno == errno.ELOOP


def test_proc_leads_nowhere(tmp_path: Path, root: Resolver) -> None:
    fd = os.open(tmp_path / "outside", os.O_RDONLY)
    (tmp_path / "root" / "l").symlink_to(f"/proc/self/fd/{fd}")
    with pytest.raises(FileNotFoundError):
        root.open([b"l"])
    os.close(fd)


def test_from_a_folder_in_between_links_are_left_to_a_look_from_the_root(
    tmp_path: Path, root: Resolver
) -> None:
    (tmp_path / "root" / "d" / "l").symlink_to("/d")
    with root.open([b"d"]) as above:
        assert root.open_below(above, [b"l"]) is None
        assert root.open_below(above, [b"..", b"d"]) is None
        below = root.open_below(above, [b"e"])
    assert below is not None
    assert is_same(below, tmp_path / "root" / "d" / "e")


def test_renames_elsewhere_do_not_disturb_links_with_dots(tmp_path: Path, root: Resolver) -> None:
    (tmp_path / "root" / "l").symlink_to("d/e/../../d/e/..")
    stop = threading.Event()

    def rename() -> None:
        while not stop.is_set():
            os.rename(tmp_path / "outside", tmp_path / "outside2")
            os.rename(tmp_path / "outside2", tmp_path / "outside")

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        for _ in range(2000):
            assert is_same(root.open([b"l"]), tmp_path / "root" / "d")
    finally:
        stop.set()
        thread.join()


def test_going_in_and_out_by_links_has_an_end(
    tmp_path: Path, root: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root" / "l").symlink_to("d/e/../../" * 10 + "d")
    monkeypatch.setattr("graphdriver.layer.tree.resolver._LOOKUPS_BACK", 100)
    paths = [[b"l", b"%d" % n] for n in range(20)]
    with pytest.raises(OSError, match="symbolic links"):
        for path in paths:
            root.open(path, make).close()
    again = Resolver(root.root_fd)
    again.open(paths[0], make).close()


@pytest.mark.parametrize("step", ["l{}", "d/../l{}"])
def test_a_chain_of_many_links_is_an_error(tmp_path: Path, root: Resolver, step: str) -> None:
    (tmp_path / "root" / "l0").symlink_to("d")
    for number in range(300):
        (tmp_path / "root" / f"l{number + 1}").symlink_to(step.format(number))
    root.open([b"l200"]).close()
    with pytest.raises(OSError, match="symbolic links"):
        root.open([b"l300"])
