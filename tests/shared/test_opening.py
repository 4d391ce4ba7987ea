"""Addresses of stores."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.errors import MalformedRequestError
from graphdriver.shared import opening
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.opening import open_store


@pytest.mark.parametrize("address", ["{}/a%20b", "file://{}/a%2520b"])
def test_a_directory_is_named_by_its_path_or_as_a_url(address: str, tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    with closing(open_store(address.format(tmp_path))) as store:
        assert isinstance(store, DirectoryStore)
        assert store.address == f"{tmp_path}/a%20b"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "address",
    [
        "ftp://user:secret@host/a",
        *("file://host/a", "file://", "s3://", "oci://host/A", "://"),
        f"s3://bucket/{'a' * 60} b",  # whose refusal once took years
    ],
)
def test_an_address_of_no_store_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(MalformedRequestError, match="no address of a store") as caught:
        open_store(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "is_one"),
    [
        *((one, True) for one in ("", "a", "a/", "a/b", "a.b/c-d/")),
        *((one, False) for one in ("/", "a//b", "/a", ".a", "a/.b", "a b")),
    ],
)
def test_what_can_be_the_prefix_of_a_bucket(prefix: str, is_one: bool) -> None:
    assert bool(opening._PREFIX.fullmatch(prefix)) is is_one
