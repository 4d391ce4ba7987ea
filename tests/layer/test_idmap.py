from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.idmap import attribute_to_container, attribute_to_host, to_container, to_host

MAPS = [IDMap(0, 100000, 1000), IDMap(1000, 5000, 1), IDMap(2000, 300000, 65536)]
GROUPS = [IDMap(0, 900_000, 1000)]
CAPABILITY = b"security.capability"


@pytest.mark.parametrize(
    ("inside", "outside"),
    [(0, 100000), (999, 100999), (1000, 5000), (2000, 300000), (67535, 365535)],
)
def test_each_range_maps_both_ways(inside: int, outside: int) -> None:
    assert to_host(MAPS, inside) == outside
    assert to_container(MAPS, outside) == inside


@given(st.integers(0, 2**32 - 2))
def test_without_maps_ids_are_the_same(id: int) -> None:
    assert to_host([], id) == to_container([], id) == id


@pytest.mark.parametrize("id", [1001, 1999, 67536, 2**32 - 2])
def test_an_id_that_no_range_holds_is_an_error_that_names_it(id: int) -> None:
    with pytest.raises(GraphDriverError, match=str(id)):
        to_host(MAPS, id)


@pytest.mark.parametrize("id", [0, 99999, 101000, 5001])
def test_an_id_on_disk_that_no_range_holds_is_an_error_that_names_it(id: int) -> None:
    with pytest.raises(GraphDriverError, match=str(id)):
        to_container(MAPS, id)


def capability(version: int, *root: int) -> bytes:
    return struct.pack(f"<{5 + len(root)}I", version << 24 | 1, 1 << 10, 0, 0, 0, *root)


def both_ways(name: bytes, inside: bytes, outside: bytes) -> None:
    assert attribute_to_host(MAPS, GROUPS, name, inside) == outside
    assert attribute_to_container(MAPS, GROUPS, name, outside) == inside


def test_a_capability_is_of_version_3_on_disk_and_2_in_the_tar() -> None:
    both_ways(CAPABILITY, capability(2), capability(3, 100000))


def test_a_capability_of_another_root_keeps_its_version_and_is_mapped() -> None:
    both_ways(CAPABILITY, capability(3, 1000), capability(3, 5000))


def test_a_capability_that_the_machines_own_root_gave_leaves_as_it_is() -> None:
    assert attribute_to_container(MAPS, GROUPS, CAPABILITY, capability(2)) == capability(2)


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
            attribute_to_host(MAPS, GROUPS, name, example(user, group))
    with pytest.raises(GraphDriverError, match="id 5 on disk is outside"):
        attribute_to_container(MAPS, GROUPS, name, example(5000, 5))


@given(st.binary(max_size=32), st.sampled_from([b"user.x", CAPABILITY, b"system.posix_acl_access"]))
def test_without_maps_an_attribute_is_left_alone(value: bytes, name: bytes) -> None:
    assert attribute_to_host([], [], name, value) == value
    assert attribute_to_container([], [], name, value) == value


@given(st.binary(max_size=32), st.sampled_from([b"user.x", CAPABILITY, b"system.posix_acl_access"]))
def test_an_attribute_of_no_known_form_is_left_alone(value: bytes, name: bytes) -> None:
    if name == CAPABILITY and len(value) in {20, 24} and value[3] in {2, 3}:
        return
    if name != CAPABILITY and value.startswith(struct.pack("<I", 2)):
        return
    both_ways(name, value, value)
