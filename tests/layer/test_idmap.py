"""Ids inside a layer and on disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.idmap import to_container, to_host

MAPS = [IDMap(0, 100000, 1000), IDMap(1000, 5000, 1), IDMap(2000, 300000, 65536)]


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
