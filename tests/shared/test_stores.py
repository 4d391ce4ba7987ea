"""What every kind of store does: whole objects or none, under their keys."""

from __future__ import annotations

import io
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.driver import ReadStream
from graphdriver.shared.compressed import FRAME
from graphdriver.shared.keys import chained_key, layer_key, link_key
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import NotStoredError, Store
from tests.support.ceph import ceph_s3
from tests.support.registry import registry
from tests.support.seaweedfs import mounted_weed, seaweedfs, seaweedfs_s3

WEED = "127.77.0.1"
"""An address of this machine that no other server of SeaweedFS has."""

CEPH = "127.77.0.3"
"""An address of this machine that no other Ceph has."""

DIGEST = f"sha256:{'ab' * 32}"
IMAGE = f"{layer_key(DIGEST)}.erofs"
KEYS = [
    IMAGE,
    f"{layer_key(DIGEST)}.json",
    f"{chained_key(DIGEST)}.erofs",
    f"{chained_key(DIGEST)}.json",
    link_key(DIGEST),
]
LONG = random.Random(1).randbytes(FRAME + 4096) + b"\0" * FRAME  # three frames


def directories(folder: Path) -> Iterator[str]:
    for number in itertools.count():
        os.makedirs(folder / str(number) / "chains")
        yield str(folder / str(number))


@pytest.fixture(
    scope="module",
    params=[
        "directory",
        "registry",
        pytest.param("s3", marks=pytest.mark.long),
        pytest.param("ceph", marks=[pytest.mark.long, pytest.mark.root]),
        pytest.param("mounted", marks=[pytest.mark.long, pytest.mark.root]),
    ],
)
def addresses(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iterator[str]]:
    """Addresses of empty stores of one kind."""
    folder = tmp_path_factory.mktemp("stores")
    match request.param:
        case "directory":
            yield directories(folder)
        case "registry":
            with registry(folder) as address:
                yield (f"oci+http://{address}/layers/of-all_{n}" for n in itertools.count())
        case "s3" | "ceph" as kind:
            serve, address = (seaweedfs_s3, WEED) if kind == "s3" else (ceph_s3, CEPH)
            server = serve(folder, address, "layers")
            with server as environment, pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                yield (f"s3://layers/{number}/of-all" for number in itertools.count())
        case "mounted":
            with seaweedfs(folder, WEED) as filer, mounted_weed(filer, folder / "mount") as place:
                yield directories(place)


@pytest.fixture
def store(addresses: Iterator[str]) -> Iterator[Store]:
    with closing(open_store(next(addresses))) as opened:
        yield opened


def content(store: Store, key: str, start: int = 0) -> bytes:
    with closing(store.read(key, start)) as stream:
        return b"".join(iter(lambda: stream.read(1 << 20), b""))


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_read_back_also_from_a_place_within(key: str, store: Store) -> None:
    assert store.put(key, io.BytesIO(b"0123456789"))
    assert (content(store, key), store.size(key)) == (b"0123456789", 10)
    for start in (1, 4, 9, 10):
        assert content(store, key, start) == b"0123456789"[start:]


def test_a_long_object_is_read_back_from_any_place(store: Store) -> None:
    assert store.put(IMAGE, io.BytesIO(LONG))
    assert store.size(IMAGE) == len(LONG)
    for start in (0, 4096, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, len(LONG) - 1):
        assert content(store, IMAGE, start) == LONG[start:]


@pytest.mark.long
def test_an_object_is_uploaded_in_many_parts(store: Store) -> None:
    whole = random.Random(3).randbytes(40 << 20)
    assert store.put(IMAGE, io.BytesIO(whole))
    assert content(store, IMAGE) == whole
    assert not store.put(IMAGE, io.BytesIO(whole))


def test_an_object_is_never_replaced(store: Store) -> None:
    store.put(IMAGE, io.BytesIO(b"first"))
    second = io.BytesIO(b"second")
    assert not store.put(IMAGE, second)
    assert (content(store, IMAGE), second.tell()) == (b"first", 0)  # nor written for nothing


@pytest.mark.parametrize("whole", [0, 2 * FRAME, pytest.param(40 << 20, marks=pytest.mark.long)])
def test_nothing_of_an_object_is_there_if_its_content_breaks_off(whole: int, store: Store) -> None:
    class Broken:
        def __init__(self, stream: ReadStream) -> None:
            self._stream = stream

        def read(self, n: int, /) -> bytes:
            if piece := self._stream.read(n):
                return piece
            raise ConnectionResetError("the source broke off")

    with pytest.raises(ConnectionError, match="the source broke off"):
        store.put(IMAGE, Broken(io.BytesIO(random.Random(4).randbytes(whole))))
    with pytest.raises(NotStoredError):
        store.size(IMAGE)
    assert list(store.stored()) == []


def test_what_is_not_there_is_told_apart_from_a_failure(store: Store) -> None:
    for key in KEYS:
        with pytest.raises(NotStoredError):
            store.size(key)
        with pytest.raises(NotStoredError):
            store.read(key)
    assert list(store.stored()) == []


def test_all_objects_are_listed_with_their_age(store: Store) -> None:
    for key in KEYS:
        store.put(key, io.BytesIO(b"content"))
    found = {one.key: one for one in store.stored()}
    assert sorted(found) == sorted(KEYS)
    assert all(one.size > 0 and -5 < one.unused < 60 for one in found.values())


def test_only_what_is_removed_goes(store: Store) -> None:
    for key in KEYS:
        store.put(key, io.BytesIO(b"the same content"))
    for key in (IMAGE, IMAGE):  # the second time it is gone
        store.remove(key)
    assert sorted(one.key for one in store.stored()) == sorted(KEYS[1:])
    assert content(store, KEYS[2]) == b"the same content"


def test_what_was_removed_can_be_put_there_again(store: Store) -> None:
    store.put(IMAGE, io.BytesIO(b"content"))
    store.remove(IMAGE)
    assert store.put(IMAGE, io.BytesIO(b"content"))
    assert content(store, IMAGE) == b"content"


def test_what_another_process_puts_there_is_seen(store: Store) -> None:
    with closing(open_store(store.address)) as other:
        other.put(IMAGE, io.BytesIO(b"content"))
    assert content(store, IMAGE) == b"content"


def test_a_stream_may_be_closed_before_its_end(store: Store) -> None:
    store.put(IMAGE, io.BytesIO(LONG))
    with closing(store.read(IMAGE)) as stream:
        stream.read(10)
    assert content(store, IMAGE, len(LONG) - 4) == LONG[-4:]
