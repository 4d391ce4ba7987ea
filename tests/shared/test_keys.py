"""The keys of a store, and the links between chain IDs and diff IDs."""

from __future__ import annotations

import hashlib
import json

import pytest

from graphdriver.shared.keys import (
    Link,
    chained_key,
    digest_of,
    is_digest,
    layer_key,
    link_key,
    parse_link,
)

ONE = f"sha256:{'1' * 64}"
TWO = f"sha256:{'2' * 64}"


def test_a_layers_key_is_that_of_containerds_layer_content_caches() -> None:
    assert f"{layer_key(ONE)}.erofs" == f"sha256/11/{'1' * 64}.erofs"


def test_the_chain_id_of_a_first_layer_is_its_diff_id() -> None:
    assert Link("", ONE).chain_id == ONE


def test_a_chain_id_is_the_digest_of_the_chain_below_and_the_diff_id() -> None:
    digest = hashlib.sha256(f"{ONE} {TWO}".encode()).hexdigest()
    assert Link(ONE, TWO).chain_id == f"sha256:{digest}"


def test_each_key_tells_its_digest() -> None:
    for key in (f"{layer_key(ONE)}.erofs", f"{chained_key(ONE)}.json", link_key(ONE)):
        assert digest_of(key) == ONE
    for key in ("", f"sha256/12/{'1' * 64}.erofs", f".new/{'1' * 64}", f"x{link_key(ONE)}"):
        assert digest_of(key) == ""


@pytest.mark.parametrize(
    "text", ["", "sha256:", f"sha512:{'1' * 64}", ONE.upper(), f"{ONE}\n", "../x"]
)
def test_only_sha256_digests_have_keys(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(ValueError, match="is not a SHA-256 digest"):
        layer_key(text)


def test_a_link_is_read_back() -> None:
    link = Link(ONE, TWO)
    assert parse_link(link.text().encode(), link.chain_id) == link


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a link"),
        (json.dumps({"diff_id": TWO}), "not a link"),
        (json.dumps({"diff_id": 5, "parent": ""}), "not a SHA-256 digest"),
        (json.dumps({"diff_id": TWO, "parent": "../"}), "not a SHA-256 digest"),
        (json.dumps({"diff_id": ONE, "parent": ""}), "do not give this chain ID"),
        (json.dumps({"diff_id": ONE, "parent": TWO}), "do not give this chain ID"),
    ],
)
def test_a_link_that_lies_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_link(text.encode(), Link(ONE, TWO).chain_id)
