"""What a filesystem has no room for is an error that names entry, resource, size and filesystem."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import GraphDriverError, UnsupportedError
from tests.layer.test_losses import unpack_into

MISLEADING = ("No space left", "Argument list too long", "out of range")


def refused(root: Path, *entries: bytes, kind: type[GraphDriverError] = UnsupportedError) -> str:
    """Return the text of the error that a tar ends in."""
    with pytest.raises(GraphDriverError) as caught:
        unpack_into(root, tars.tar(*entries))
    assert type(caught.value) is kind
    text = str(caught.value)
    assert not any(words in text for words in MISLEADING)
    return text


@pytest.mark.parametrize("entry", [tars.file(b"e"), tars.directory(b"e"), tars.symlink(b"e", b"x")])
def test_an_attribute_that_is_too_large_for_the_filesystem(
    filesystem: Path, place: Path, entry: bytes
) -> None:
    attribute = tars.pax([(b"SCHILY.xattr.trusted.big", b"x" * 60_000)])
    if filesystem.name in {"xfs", "shm"}:
        unpack_into(place, tars.tar(attribute, entry))
        assert len(os.getxattr(place / "e", "trusted.big", follow_symlinks=False)) == 60_000
        return
    said = refused(place, attribute, entry)
    assert said.startswith(
        "'e': the attribute 'trusted.big' cannot be kept: its 60000 bytes are mor"
    )
    assert f"the filesystem ({filesystem.name}) holds for one file; keep layers on XFS" in said


def test_an_attribute_that_is_too_large_for_linux(place: Path) -> None:
    large = tars.pax([(b"SCHILY.xattr.user.big", b"x" * 70_000)])
    said = refused(place, large, tars.file(b"f"))
    assert said == (
        "'f': the attribute 'user.big' cannot be kept: it has 70000 bytes, and Linux takes 65536"
    )
    long = tars.pax([(b"SCHILY.xattr.user." + b"n" * 300, b"x")])
    assert "its name has 305 bytes, and Linux takes 255" in refused(place, long, tars.file(b"f"))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB and 64 inodes."""
    options = "size=2m,nr_inodes=64"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tiny", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_filesystem_that_is_full(tiny: Path) -> None:
    said = refused(tiny, tars.file(b"f", bytes(range(256)) * 16384), kind=GraphDriverError)
    assert said == "'f': no space is left on the filesystem (tmpfs): 0 bytes are free"


def test_a_filesystem_without_inodes(tiny: Path) -> None:
    many = [tars.file(b"%d" % number) for number in range(100)]
    said = refused(tiny, *many, kind=GraphDriverError)
    assert said.endswith(": no inodes are left on the filesystem (tmpfs): all 64 are in use")


def test_a_name_that_is_too_long(place: Path) -> None:
    said = refused(place, tars.gnu_long(b"L", b"d/" + b"n" * 256), tars.file(b""))
    assert "its name is too long: a part of it has 256 bytes, the filesystem (" in said
    assert said.endswith(") takes 255")


def test_the_text_of_a_link_that_is_too_long(filesystem: Path, place: Path) -> None:
    said = refused(place, tars.gnu_long(b"K", b"x/" * 3000), tars.symlink(b"s", b""))
    assert said.startswith("'s': its text is too long for the filesystem (")
    assert said.endswith("): 6000 bytes")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        said = refused(tmp_path, tars.file(b"f", bytes(range(256)) * 8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.startswith(
        "'f': its size is 2097152 bytes: the file is larger than the filesystem ("
    )
    assert said.endswith("(RLIMIT_FSIZE: 1048576)")
