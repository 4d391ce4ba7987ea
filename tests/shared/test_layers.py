"""The layers of a store: only what a diff ID proves is believed."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap
from graphdriver.errors import BadArchiveError, BrokenStreamError
from graphdriver.layer.erofs.record import Kind
from graphdriver.layer.erofs.tar_headers import compressed, headers_of
from graphdriver.shared.keys import chained_key, layer_key, link_key
from graphdriver.shared.layers import SharedLayers
from tests.support.shared_store import links_of, store_with

pytestmark = pytest.mark.root

BELOW = tars.tar(tars.directory(b"./"), tars.directory(b"a"), tars.file(b"a/b", b"content" * 500))
ABOVE = tars.tar(tars.file(b"a/c", b"above"))
FIRST, SECOND = links_of([BELOW, ABOVE])
IMAGE = f"{layer_key(FIRST.diff_id)}.erofs"
RECORD = f"{layer_key(FIRST.diff_id)}.json"
HEADERS = f"{layer_key(FIRST.diff_id)}.headers"
CHAINED_HEADERS = f"{chained_key(SECOND.chain_id)}.headers"


@pytest.fixture
def shared(tmp_path: Path) -> SharedLayers:
    return store_with(tmp_path, [BELOW, ABOVE])


def tar_of(shared: SharedLayers, number: int = 0) -> bytes:
    found = shared.find((FIRST, SECOND)[number])
    assert found
    content = b""
    with closing(shared.tar(found)) as stream:
        while piece := stream.read(700):
            content += piece
    return content


def flip(shared: SharedLayers, key: str, at: int) -> None:
    path = Path(shared.store.address, key)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def damaged(shared: SharedLayers) -> dict[str, str]:
    images = [one for one in shared.store.stored() if one.key.endswith(".erofs")]
    return {one.key: wrong for one in images if (wrong := shared.wrong(one))}


def test_a_layers_tar_is_the_one_that_was_pushed(shared: SharedLayers) -> None:
    assert (tar_of(shared), tar_of(shared, 1)) == (BELOW, ABOVE)
    assert damaged(shared) == {}


def test_an_index_that_depends_on_the_layers_below_is_named_by_the_chain(
    shared: SharedLayers,
) -> None:
    images = {one.key for one in shared.store.stored() if one.key.endswith(".erofs")}
    assert images == {IMAGE, f"{chained_key(SECOND.chain_id)}.erofs"}


@pytest.mark.parametrize("change", [{"tar_offset": 0}, {"tar_offset": 8192}, {"kind": Kind.TREE}])
def test_a_record_whose_tar_is_elsewhere_is_none_of_ours(
    change: dict[str, Any], shared: SharedLayers
) -> None:
    found = shared.find(FIRST)
    assert found
    forged = replace(found.record, **change)
    Path(shared.store.address, RECORD).write_text(forged.text())
    with open(Path(shared.store.address, IMAGE), "ab") as image:
        image.truncate(1 << 20)
    assert shared.find(FIRST) is None
    assert (
        damaged(shared)[IMAGE]
        == "its record is damaged: its tar is not behind the head of an image"
    )


def test_the_store_tells_the_diff_id_of_a_chain_id(shared: SharedLayers) -> None:
    assert shared.link_of(SECOND.chain_id) == SECOND
    assert shared.link_of(f"sha256:{'0' * 64}") is None


def test_a_link_that_lies_is_a_miss(shared: SharedLayers, caplog: pytest.LogCaptureFixture) -> None:
    Path(shared.store.address, link_key(SECOND.chain_id)).write_text(FIRST.text())
    assert shared.link_of(SECOND.chain_id) is None
    assert "do not give this chain ID" in caplog.text


@pytest.mark.parametrize("at", [4096, 5096, 4096 + len(BELOW) - 1])
def test_a_flipped_bit_of_the_tar_is_found_at_its_end(at: int, shared: SharedLayers) -> None:
    flip(shared, IMAGE, at)
    with pytest.raises(BadArchiveError, match=f"not {FIRST.diff_id}"):
        tar_of(shared)
    assert list(damaged(shared)) == [IMAGE]


@pytest.mark.parametrize("at", [-1, 1024 + 16])
def test_a_forged_index_is_found_by_a_check_and_read_by_nobody(
    at: int, shared: SharedLayers
) -> None:
    flip(shared, IMAGE, at)
    assert tar_of(shared) == BELOW
    assert "its index is not that of its tar" in damaged(shared)[IMAGE]


def test_a_file_that_was_cut_is_a_miss(
    shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(Path(shared.store.address, IMAGE), 5000)
    assert shared.find(FIRST) is None
    assert "too short" in caplog.text


def test_a_file_that_is_cut_while_it_is_read_is_a_broken_stream(shared: SharedLayers) -> None:
    found = shared.find(FIRST)
    assert found
    with closing(shared.tar(found)) as stream:
        stream.read(100)
        os.truncate(Path(shared.store.address, IMAGE), 5000)
        with pytest.raises(BrokenStreamError, match="bytes early"):
            while stream.read(1000):
                pass


def test_a_damaged_record_is_a_miss(shared: SharedLayers, caplog: pytest.LogCaptureFixture) -> None:
    flip(shared, RECORD, 100)
    assert shared.find(FIRST) is None
    assert "is not used" in caplog.text
    assert "its record is damaged" in damaged(shared)[IMAGE]


def test_a_record_of_another_layer_shows_nobody_that_layer(shared: SharedLayers) -> None:
    for mine, other in ((IMAGE, ".erofs"), (RECORD, ".json")):
        content = Path(shared.store.address, f"{chained_key(SECOND.chain_id)}{other}").read_bytes()
        Path(shared.store.address, mine).write_bytes(content)
    with pytest.raises(BadArchiveError, match=hashlib.sha256(ABOVE).hexdigest()):
        tar_of(shared)
    assert "depends on layers below" in damaged(shared)[IMAGE]


def test_an_image_of_another_chain_is_found(shared: SharedLayers) -> None:
    chained = chained_key(SECOND.chain_id)
    for mine, other in ((IMAGE, ".erofs"), (RECORD, ".json")):
        content = Path(shared.store.address, mine).read_bytes()
        Path(shared.store.address, f"{chained}{other}").write_bytes(content)
    assert "its record names" in damaged(shared)[f"{chained}.erofs"]
    Path(shared.store.address, link_key(SECOND.chain_id)).unlink()
    assert "no link" in damaged(shared)[f"{chained}.erofs"]


def headers_of_first(shared: SharedLayers) -> bytes:
    found = shared.find(FIRST)
    assert found
    return shared.headers(found)


def test_the_headers_of_each_tar_are_beside_its_image(shared: SharedLayers) -> None:
    kept = {one.key for one in shared.store.stored() if one.key.endswith(".headers")}
    assert kept == {HEADERS, CHAINED_HEADERS}
    assert headers_of_first(shared) == headers_of(io.BytesIO(BELOW), len(BELOW))


def test_headers_that_are_missing_or_damaged_are_not_used(
    shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    flip(shared, HEADERS, 30)
    assert headers_of_first(shared) == b""
    assert f"{HEADERS} is not used" in caplog.text
    Path(shared.store.address, HEADERS).unlink()
    assert headers_of_first(shared) == b""
    assert damaged(shared) == {}  # a store that older versions have filled has none


def test_headers_that_are_too_long_are_not_used(
    shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    with open(Path(shared.store.address, HEADERS), "wb") as file:
        file.truncate((64 << 20) + 1)
    assert headers_of_first(shared) == b""
    assert f"{HEADERS} is not used: it has more than" in caplog.text


@pytest.mark.parametrize("key", [HEADERS, CHAINED_HEADERS])
def test_headers_of_another_tar_are_found_by_a_check(key: str, shared: SharedLayers) -> None:
    tar = BELOW if key == HEADERS else ABOVE
    forged = tar.replace(b"0000644", b"0000446")  # the header's checksum is the same
    headers = headers_of(io.BytesIO(forged), len(tar))
    assert headers
    assert headers != headers_of(io.BytesIO(tar), len(tar))
    Path(shared.store.address, key).write_bytes(compressed(headers))
    (problem,) = damaged(shared).values()
    assert problem == "its headers are not those of its tar"
    flip(shared, key, 0)
    (problem,) = damaged(shared).values()
    assert "its headers are damaged" in problem


def test_headers_are_used_as_long_as_their_image(shared: SharedLayers) -> None:
    os.utime(Path(shared.store.address, HEADERS), (0, 0))
    assert list(shared.unused(3600)) == []
    os.utime(Path(shared.store.address, IMAGE), (0, 0))
    assert {one.key for one in shared.unused(3600)} == {IMAGE, HEADERS}


def test_what_nobody_has_used_is_found(shared: SharedLayers) -> None:
    os.utime(Path(shared.store.address, IMAGE), (0, 0))
    assert [one.key for one in shared.unused(3600)] == [IMAGE]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sha256": b"\1" * 32}, "another layer"),
        ({"kind": Kind.TREE}, "an image in one file"),
        ({"tar_offset": 0}, "an image in one file"),
        ({"uid_maps": (IDMap(0, 1000, 1),)}, "without maps"),
        ({"gid_maps": (IDMap(0, 1000, 1),)}, "without maps"),
    ],
)
def test_only_a_whole_image_that_suits_every_node_is_taken(
    change: Mapping[str, Any], problem: str, shared: SharedLayers
) -> None:
    found = shared.find(FIRST)
    assert found
    with (
        open(Path(shared.store.address, IMAGE), "rb") as file,
        pytest.raises(ValueError, match=problem),
    ):
        shared.put(FIRST, file.fileno(), replace(found.record, **change))
