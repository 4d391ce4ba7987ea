"""Extended attributes that hold ids, on disk and in a tar."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.attributes import in_tar, on_disk

MAPS = [IDMap(0, 100000, 1000), IDMap(1000, 5000, 1), IDMap(2000, 300000, 65536)]
GROUPS = [IDMap(0, 900_000, 1000)]
CAPABILITY = b"security.capability"


def capability(version: int, *root: int) -> bytes:
    return struct.pack(f"<{5 + len(root)}I", version << 24 | 1, 1 << 10, 0, 0, 0, *root)


def both_ways(name: bytes, inside: bytes, outside: bytes) -> None:
    assert on_disk({name: inside}, MAPS, GROUPS) == {name: outside}
    assert in_tar({name: outside}, MAPS, GROUPS) == {name: inside}


def test_a_capability_is_of_version_3_on_disk_and_2_in_the_tar() -> None:
    both_ways(CAPABILITY, capability(2), capability(3, 100000))


def test_a_capability_of_another_root_keeps_its_version_and_is_mapped() -> None:
    both_ways(CAPABILITY, capability(3, 1000), capability(3, 5000))


def test_a_capability_that_the_machines_own_root_gave_leaves_as_it_is() -> None:
    same = {CAPABILITY: capability(2)}
    assert in_tar(same, MAPS, GROUPS) == same


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def example(user: int, group: int) -> bytes:
    nobody = 0xFFFFFFFF
    return acl(
        (1, 7, nobody),
        (2, 6, user),
        (4, 5, nobody),
        (8, 4, group),
        (16, 7, nobody),
        (32, 1, nobody),
    )


@pytest.mark.parametrize("name", [b"system.posix_acl_access", b"system.posix_acl_default"])
def test_the_users_and_groups_of_an_acl_are_mapped_and_nobody_else_in_it(name: bytes) -> None:
    both_ways(name, example(1000, 7), example(5000, 900_007))
    for user, group in ((1001, 7), (1000, 2000)):
        with pytest.raises(GraphDriverError, match=r"id (1001|2000) is outside"):
            on_disk({name: example(user, group)}, MAPS, GROUPS)
    with pytest.raises(GraphDriverError, match="id 5 on disk is outside"):
        in_tar({name: example(5000, 5)}, MAPS, GROUPS)


@given(st.binary(max_size=32), st.sampled_from([b"user.x", CAPABILITY, b"system.posix_acl_access"]))
def test_without_maps_an_attribute_is_left_alone(value: bytes, name: bytes) -> None:
    assert on_disk({name: value}, [], []) == {name: value}
    assert in_tar({name: value}, [], []) == {name: value}


@given(st.binary(max_size=32), st.sampled_from([b"user.x", CAPABILITY, b"system.posix_acl_access"]))
def test_an_attribute_of_no_known_form_is_left_alone(value: bytes, name: bytes) -> None:
    if name == CAPABILITY and len(value) in {20, 24} and value[3] in {2, 3}:
        return
    if name != CAPABILITY and value.startswith(struct.pack("<I", 2)):
        return
    both_ways(name, value, value)
