"""Files full of zeros, packed without them: for readers that bear it."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.pack import pack
from graphdriver.layer.tree import holes
from graphdriver.layer.tree.holes import BLOCK, data_ranges
from tests.drivers.filesystems import loop
from tests.layer.test_pack import FOLDER, unpacked

MEBIBYTE = 1 << 20


def packed(root: Path, *, sparse: bool = True) -> bytes:
    fd = os.open(root, FOLDER)
    stream = pack(fd, None, sparse=sparse)
    os.close(fd)
    try:
        return b"".join(iter(lambda: stream.read(100_000), b""))
    finally:
        stream.close()


def write(path: Path, size: int, *islands: tuple[int, bytes]) -> None:
    with open(path, "wb") as file:
        file.truncate(size)
        for at, data in islands:
            file.seek(at)
            file.write(data)
    os.utime(path, ns=(1, 1))


@pytest.fixture
def tree(place: Path) -> Path:
    """Files with holes in every position, on one filesystem after another."""
    root = place / "tree"
    (root / "a-folder").mkdir(parents=True)
    write(root / "all", 3 * MEBIBYTE)
    write(root / "begins", 2 * MEBIBYTE, (0, b"x" * 5000))
    write(root / "ends", MEBIBYTE + 77, (MEBIBYTE, b"y" * 77))
    write(root / "many", 9 * MEBIBYTE, *[(n * 70_000 + n, b"%d" % n * 50) for n in range(120)])
    write(root / "a-folder" / ("n" * 200), MEBIBYTE, (500_000, b"z"))
    write(root / "small", 1000, (500, b"small"))
    write(root / "capable", MEBIBYTE)
    os.setxattr(root / "capable", "trusted.x", b"1")
    os.link(root / "many", root / "second-name")
    for folder in (root, root / "a-folder"):
        os.utime(folder, ns=(1, 1))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_holes_are_left_out_and_come_back(tree: Path, tmp_path: Path) -> None:
    data = packed(tree)
    assert len(data) < 2 * MEBIBYTE
    unpacked(data, tmp_path)
    assert contents(tmp_path) == contents(tree)
    assert (tmp_path / "all").stat().st_blocks == 0
    assert (tmp_path / "many").stat().st_blocks * 512 < 2 * MEBIBYTE
    assert (tmp_path / "many").samefile(tmp_path / "second-name")
    assert os.getxattr(tmp_path / "capable", "trusted.x") == b"1"


def test_unless_it_is_asked_for_holes_are_zeros(tree: Path) -> None:
    data = packed(tree, sparse=False)
    assert b"GNU.sparse" not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("all").sparse is None


@pytest.fixture(scope="module")
def seen_before() -> dict[str, bytes]:
    return {}


def test_a_hole_is_what_holds_zeros_on_whatever_filesystem_and_taking_space_or_not(
    tree: Path, tmp_path: Path, seen_before: dict[str, bytes]
) -> None:
    data = packed(tree)
    assert seen_before.setdefault("data", data) == data
    subprocess.run(["cp", "-a", "--sparse=never", f"{tree}/.", str(tmp_path)], check=True)
    assert (tmp_path / "all").stat().st_blocks * 512 >= 3 * MEBIBYTE
    assert packed(tmp_path) == data


def test_a_filesystem_of_smaller_blocks_has_no_other_holes(tmp_path: Path) -> None:
    with loop("ext4-1k", tmp_path) as small:
        for where in (small, tmp_path):
            write(where / "f", 10 * BLOCK, (2 * BLOCK + 3000, b"x" * 10), (5 * BLOCK + 1, b"x"))
        assert (small / "f").stat().st_blocks * 512 == 2048
        with open(small / "f", "rb") as file, open(tmp_path / "f", "rb") as other:
            assert (
                data_ranges(file.fileno(), 10 * BLOCK)
                == data_ranges(other.fileno(), 10 * BLOCK)
                == [(2 * BLOCK, BLOCK), (5 * BLOCK, BLOCK)]
            )


@pytest.mark.parametrize(
    "program", [["tar", "-xpf"], ["bsdtar", "-xpf"]], ids=["GNU tar", "bsdtar"]
)
def test_other_programs_unpack_the_same_files(
    tree: Path, tmp_path: Path, program: list[str]
) -> None:
    (tmp_path / "a.tar").write_bytes(packed(tree))
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [*program, "../a.tar"], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert contents(tmp_path / "out") == contents(tree)
    assert (tmp_path / "out" / "all").stat().st_blocks == 0


def test_pythons_tarfile_reads_the_same_files(tree: Path) -> None:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file:
                found[member.name] = file.read()
    assert found == contents(tree)


def test_what_is_not_smaller_without_its_zeros_is_stored_whole(tmp_path: Path) -> None:
    write(tmp_path / "one-block", 3 * BLOCK, (0, b"x" * BLOCK), (2 * BLOCK, b"x" * BLOCK))
    assert b"GNU.sparse" in packed(tmp_path)
    write(tmp_path / "one-block", BLOCK + 100, (0, b"x" * BLOCK))
    assert b"GNU.sparse" not in packed(tmp_path)


def test_a_file_of_too_many_ranges_is_stored_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "MOST_RANGES", 100)
    for ranges, is_sparse in ((100, True), (101, False)):
        write(tmp_path / "f", 300 * BLOCK, *[(2 * n * BLOCK, b"x") for n in range(ranges)])
        data = packed(tmp_path)
        assert (b"GNU.sparse" in data) is is_sparse


def test_the_longest_list_of_ranges_is_one_that_every_reader_takes(tmp_path: Path) -> None:
    write(
        tmp_path / "f",
        BLOCK * 2 * holes.MOST_RANGES,
        *[(2 * n * BLOCK, b"x") for n in range(holes.MOST_RANGES)],
    )
    data = packed(tmp_path)
    assert b"GNU.sparse" in data
    (tmp_path / "a.tar").write_bytes(data)
    for program in ("tar", "bsdtar"):
        read = [program, "-xOf", str(tmp_path / "a.tar"), "f"]
        done = subprocess.run(read, capture_output=True, check=True)
        assert done.stdout == (tmp_path / "f").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("f").size == (tmp_path / "f").stat().st_size


def test_a_sparse_file_that_shrinks_breaks_the_stream(tmp_path: Path) -> None:
    write(tmp_path / "f", 8 * MEBIBYTE, (0, b"x"), (7 * MEBIBYTE, b"x" * MEBIBYTE))
    fd = os.open(tmp_path, FOLDER)
    stream = pack(fd, None, sparse=True)
    os.close(fd)
    assert stream.read(1000)
    os.truncate(tmp_path / "f", 7 * MEBIBYTE + 1000)
    with pytest.raises(BrokenStreamError, match="'f': shrank"):
        while stream.read(MEBIBYTE):
            pass
    stream.close()


def test_a_file_that_shrinks_before_its_ranges_are_known_breaks_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "f", MEBIBYTE)

    def shrink(fd: int, size: int) -> list[tuple[int, int]] | None:
        os.truncate(tmp_path / "f", 10)
        return data_ranges(fd, size)

    monkeypatch.setattr(holes, "data_ranges", shrink)
    with pytest.raises(BrokenStreamError, match="'f': shrank"):
        packed(tmp_path)


@settings(max_examples=300)
@given(st.lists(st.sampled_from([0, 1, BLOCK - 1]), max_size=12), st.integers(0, BLOCK))
def test_the_ranges_hold_all_that_is_no_zero_and_no_block_of_zeros(
    blocks: list[int], tail: int
) -> None:
    """Each block has one byte that is no zero, at a place, or none: 0."""
    content = b"".join(bytes(at) + b"x" * (at > 0) + bytes(BLOCK - at - (at > 0)) for at in blocks)
    content += b"y" * tail
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        ranges = data_ranges(file.fileno(), len(content))
    assert ranges is not None
    rebuilt = bytearray(len(content))
    for offset, length in ranges:
        rebuilt[offset : offset + length] = content[offset : offset + length]
        for at in range(offset, offset + length, BLOCK):
            assert content[at : at + BLOCK].strip(b"\0")
    assert bytes(rebuilt) == content
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(ranges))
