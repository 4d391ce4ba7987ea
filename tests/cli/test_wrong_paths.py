"""A path on the command line that leads to something of a wrong type is refused, and left alone."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from tests.support.command import graphdriver

pytestmark = pytest.mark.root

NO_DIRECTORY = "{place}: ((it is n|N)ot a|No such file or) directory"
NO_SOCKET = "{place} exists and is not a socket"
CASES = "--only=layers/*"

DIRECTORIES = [
    ("serve", "vfs", "--socket={folder}/s", "--data-root={place}"),
    ("serve", "--socket={folder}/s", "--data-root={place}"),
    ("serve", "plain_folders:PlainFolders", "--socket={folder}/s", "--data-root={place}"),
    ("drivers", "--data-root={place}"),
    ("snapshotter", "--address={folder}/s", "--root={place}"),
    ("snapshotter", "vfs", "--address={folder}/s", "--root={place}"),
    ("conform", "--exec=true {{socket}}", CASES, "--home={place}"),
]
SOCKETS = [
    ("serve", "vfs", "--socket={place}"),
    ("snapshotter", "vfs", "--root={folder}/root", "--address={place}"),
    ("record", "--socket={folder}/s", "{place}"),
    ("record", "--socket={place}", "{folder}/s"),
    ("call", "--socket={place}", "Status"),
    ("conform", "--socket={place}", CASES),
    ("conform", "--home={folder}/home", "--snapshotter={place}"),
]
FILES = [
    ("record", "--socket={folder}/s", "{folder}/t", "--output={folder}"),
    ("conform", "--list", "--json={folder}"),
    ("conform", "--exec=true {{socket}}", CASES, "--junit={folder}"),
    ("conform", "--exec=true {{socket}}", CASES, "--json={folder}"),
    ("conform", "--exec=true {{socket}}", CASES, "--plugin-log={folder}"),
]


def refused(folder: Path, place: Path, words: tuple[str, ...]) -> str:
    """Return what is said of a command that is refused."""
    done = graphdriver(*(word.format(folder=folder, place=place) for word in words))
    assert done.returncode not in (0, -15)
    assert not done.stdout
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


@pytest.fixture
def file(folder: Path) -> Path:
    file = folder / "file"
    file.write_text("theirs")
    return file


@pytest.mark.parametrize("words", DIRECTORIES, ids=" ".join)
@pytest.mark.parametrize("kind", ["file", "below-a-file", "dangling-link"])
def test_what_is_not_a_directory(
    folder: Path, file: Path, words: tuple[str, ...], kind: str
) -> None:
    link = folder / "link"
    link.symlink_to("nowhere")
    place = {"file": file, "below-a-file": file / "home", "dangling-link": link}[kind]
    if words[0] == "conform" and kind == "dangling-link":
        return  # what it leads to is made
    in_the_way = link if kind == "dangling-link" else file
    assert re.search(
        NO_DIRECTORY.format(place=f"({in_the_way}|{place})"), refused(folder, place, words)
    )
    assert file.read_text() == "theirs"
    assert sorted(os.listdir(folder)) == ["file", "link"]


@pytest.mark.parametrize("words", SOCKETS, ids=" ".join)
@pytest.mark.parametrize("kind", ["file", "fifo", "directory"])
def test_what_is_not_a_socket(folder: Path, words: tuple[str, ...], kind: str) -> None:
    place = folder / "place"
    {"file": place.touch, "fifo": lambda: os.mkfifo(place), "directory": place.mkdir}[kind]()
    before = place.lstat()
    assert NO_SOCKET.format(place=place) in refused(folder, place, words)
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not (folder / "s").exists()


@pytest.mark.parametrize("words", FILES, ids=" ".join)
def test_what_is_not_a_file(folder: Path, words: tuple[str, ...]) -> None:
    assert re.search(
        rf"^graphdriver \w+: {folder}: Is a directory$", refused(folder, folder, words)
    )
    assert stat.S_ISDIR(folder.stat().st_mode)
