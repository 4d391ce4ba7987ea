"""``fsck --deep``: content that differs from what was recorded, and checks that are interrupted."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.care.content import CHECKED, ContentCheck
from graphdriver.care.fsck import check
from graphdriver.care.tar_split import DiffersError, UnknownContentError, compare_with_tar
from graphdriver.conformance.plugin import tars
from tests.care.fsck_homes import driving
from tests.support.tar_split import split

pytestmark = pytest.mark.root

LONG = b"directory/" * 20 + b"file"
TAR = tars.tar(
    tars.directory(b"etc"),
    tars.file(b"etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    tars.file(b"./etc/empty", b""),
    tars.symlink(b"link", b"etc"),
    tars.file(b"/link/through", b"a file behind a link"),
    tars.hard_link(b"again", b"etc/passwd"),
    tars.file(b"large", b"0123456789abcdef" * 200_000),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    with driving("vfs", tmp_path / "home") as driver:
        driver.create("layer", "", "", {})
        driver.apply_diff("layer", "", io.BytesIO(TAR))
    return tmp_path / "home/layer/root"


def compare(tree: Path, data: bytes = TAR) -> None:
    record = tree.parent / "tar-split.json.gz"
    compare_with_tar(str(record), str(tree), split(data, record))


def test_the_files_of_a_layer_are_those_of_its_tar(tree: Path) -> None:
    compare(tree)


def test_a_changed_byte_is_found(tree: Path) -> None:
    with open(tree / "large", "r+b") as file:
        file.seek(1_000_000)
        file.write(b"!")
    with pytest.raises(DiffersError, match="the content of its files is not that of its tar"):
        compare(tree)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda tree: (tree / "etc/passwd").unlink(), "'etc/passwd' was lost: No such file"),
        (lambda tree: (tree / "link").unlink(), "through' was lost: No such file"),
        (lambda tree: (tree / "large").write_bytes(b"x"), "'large' has 1 bytes, and should have"),
    ],
)
def test_a_file_that_was_lost_is_named(
    tree: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(tree)
    with pytest.raises(DiffersError, match=words):
        compare(tree)


def test_no_name_leads_out_of_the_layer(tree: Path) -> None:
    (tree.parents[1] / "secret").write_bytes(b"secret")
    (tree / "out").symlink_to("../../secret")
    (tree / "above").symlink_to("../..")
    for name in (b"../../secret", b"out", b"above/secret"):
        with pytest.raises(DiffersError, match="was lost"):
            compare(tree, tars.tar(tars.file(name, b"secret")))


def test_a_tar_with_a_file_twice_cannot_be_told(tree: Path) -> None:
    twice = tars.tar(tars.file(b"etc/passwd", b"x" * 22), tars.file(b"etc/passwd", b"y" * 22))
    with pytest.raises(UnknownContentError, match="'etc/passwd' more than once"):
        compare(tree, twice)


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"[]\n"), gzip.compress(b"{}" * 9)[:-4]],
    ids=["empty", "no gzip", "a list", "cut"],
)
def test_a_damaged_record_is_no_damage_of_the_layer(tree: Path, data: bytes) -> None:
    record = tree.parent / "tar-split.json.gz"
    record.write_bytes(data)
    with pytest.raises((UnknownContentError, DiffersError)) as caught:
        compare_with_tar(str(record), str(tree), "sha256:" + "0" * 64)
    assert isinstance(caught.value, UnknownContentError) or not data


@pytest.fixture
def erofs(tmp_path: Path) -> Path:
    """A home of erofs with four applied layers."""
    with driving("erofs", tmp_path / "home") as driver:
        for id in ("a", "b", "c", "d"):
            driver.create(id, "", "", {})
            driver.apply_diff(id, "", io.BytesIO(TAR))
    return tmp_path / "home"


def wrong(home: Path) -> list[str]:
    found = check(str(home))
    for _ in ContentCheck(found).run():
        pass
    return [f"{one.damage.code} {one.damage.layer}" for one in found.found]


def test_a_flipped_bit_of_a_stored_tar_is_found(erofs: Path) -> None:
    assert wrong(erofs) == []
    with open(erofs / "b/layer.erofs", "r+b") as file:
        file.seek(1_000_000)
        file.write(b"!")
    assert wrong(erofs) == ["wrong-content b"]


def test_an_interrupted_check_goes_on_where_it_ended(erofs: Path) -> None:
    with open(erofs / "d/layer.erofs", "r+b") as file:
        file.seek(1_000_000)
        file.write(b"!")
    with contextlib.closing(ContentCheck(check(str(erofs))).run()) as run:  # type: ignore[type-var]
        assert list(itertools.islice(run, 2)) == ["a", "b"]
    found = check(str(erofs))
    rest = ContentCheck(found)
    assert "2 of 4 layers was checked before" in found.notes[0]
    assert list(rest.run()) == ["c", "d"]
    assert not (erofs / CHECKED).exists()
    assert wrong(erofs) == ["wrong-content d"]


@pytest.mark.parametrize("what", ["fifo", "link", "garbage"])
def test_a_list_of_checked_layers_that_is_none_is_removed(
    erofs: Path, tmp_path: Path, what: str
) -> None:
    """Nothing is waited for, and nothing is written to another file."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    if what == "fifo":
        os.mkfifo(erofs / CHECKED)
    elif what == "link":
        (erofs / CHECKED).symlink_to(elsewhere)
    else:
        (erofs / CHECKED).write_bytes(b"\xff\n")
    assert wrong(erofs) == []
    assert not os.path.lexists(erofs / CHECKED)
    assert elsewhere.read_bytes() == b""


def test_a_managed_plugins_layers_are_compared_with_the_records_of_its_daemon(
    tmp_path: Path,
) -> None:
    name = "example/vfs:1"
    home = tmp_path / "plugins" / ("a" * 64) / "propagated-mount" / name
    home.parent.mkdir(parents=True)
    with driving("vfs", home) as driver:
        driver.create("layer", "", "", {})
        driver.apply_diff("layer", "", io.BytesIO(TAR))
    digest = hashlib.sha256(TAR).hexdigest()
    record = tmp_path / "image" / name / "layerdb/sha256" / digest
    record.mkdir(parents=True)
    for file, text in (("cache-id", "layer"), ("diff", f"sha256:{digest}"), ("size", "1")):
        (record / file).write_text(text)
    split(TAR, record / "tar-split.json.gz")
    (home / "layer/root/etc/passwd").write_bytes(b"toor:x:0:0::/:/bin/sh\n")
    assert wrong(home) == ["wrong-content layer"]


def test_what_nobody_recorded_is_said(tree: Path) -> None:
    found = check(str(tree.parents[1]))
    assert list(ContentCheck(found).run()) == ["layer"]
    assert found.notes == ["nothing was recorded of the content of 1 of 1 layers"]
