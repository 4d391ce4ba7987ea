"""S3 with credentials that lack a right, or are wrong: what is a miss, what is away, what is named."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.shared.keys import layer_key
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import Store
from tests.containerd.test_shared_layers import LAYERS, LINKS, pulled
from tests.containerd.test_store_away import node
from tests.support.shared_store import store_with
from tests.support.small_s3 import RIGHTS, SmallS3, small_s3
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

STORE = "s3://layers/site"
KEY = f"{layer_key(LINKS[0].diff_id)}.json"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallS3]:
    with small_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_without_the_right_to_list_what_is_there_is_taken_and_the_rest_is_a_miss(
    server: SmallS3, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store_with(folder, LAYERS[:2], STORE)
    server.rights = frozenset({"GetObject"})
    with node(folder, STORE) as snapshots:
        wait_until(lambda: "lack the right s3:ListBucket" in caplog.text)  # before the first pull
        assert pulled(snapshots, LINKS[:3]) == 2
        snapshots.remove(f"default/2/extract {LINKS[2].chain_id}")
        assert pulled(snapshots, LINKS[:3]) == 2
        assert snapshots._availability.is_worth_asking
    assert caplog.text.count("lack the right s3:ListBucket") == 1
    assert "is away" not in caplog.text
    assert "is not taken from the store" not in caplog.text


@pytest.mark.parametrize("what", ["the key", "the right to read", "the bucket"])
def test_a_wrong_key_right_or_bucket_is_a_store_that_is_away(
    what: str,
    server: SmallS3,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if what == "the key":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
        told = "(InvalidAccessKeyId)"
    elif what == "the bucket":
        server.has_bucket = False
        told = "(NoSuchBucket)"
    else:
        server.rights = RIGHTS - {"GetObject"}
        told = "s3:GetObject"
    with node(folder, STORE) as snapshots:
        wait_until(lambda: "is away" in caplog.text)
        assert pulled(snapshots, LINKS[:1]) == 0
    assert told in caplog.text
    assert caplog.text.count("is away") == 1
    assert "s3:ListBucket" not in caplog.text


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        (lambda store: store.put(f"{KEY}0", io.BytesIO(b"new")), "PutObject"),
        (lambda store: store.put(f"{KEY}0", io.BytesIO(bytes(17 << 20))), "PutObject"),
        (lambda store: store.size(KEY), "GetObject"),
        (lambda store: store.read(KEY), "GetObject"),
        (lambda store: list(store.stored()), "ListBucket"),
        (lambda store: list(store.stored()), "GetObject"),
        (lambda store: list(store.stored()), "DeleteObject"),
        (lambda store: store.remove(KEY), "DeleteObject"),
    ],
    ids=["put", "put long", "size", "read", "list", "clock", "clock again", "remove"],
)
def test_the_right_that_is_missing_is_named(
    call: Callable[[Store], object], missing: str, server: SmallS3
) -> None:
    with contextlib.closing(open_store(STORE)) as store:
        store.put(KEY, io.BytesIO(b"content"))
        server.rights = RIGHTS - {missing}
        with pytest.raises(OSError, match=f"may lack the right s3:{missing}"):
            call(store)
        assert len(server.objects) == 1 or missing == "DeleteObject"


def test_who_only_reads_lists_by_the_clock_of_this_machine(server: SmallS3) -> None:
    with contextlib.closing(open_store(STORE)) as store:
        store.put(KEY, io.BytesIO(b"content"))
        server.rights = frozenset({"GetObject", "ListBucket"})
        assert [one.key for one in store.stored()] == [KEY]
