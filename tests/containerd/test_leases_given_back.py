"""A node gives its lease back when the last layer that needs it goes, and never before."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphdriver.containerd.shared_layers import SharedSnapshots
from graphdriver.drivers.erofs.layout import PLACE
from graphdriver.shared import in_place as node_of_a_store
from graphdriver.shared.layers import SharedLayers
from tests.containerd.test_in_place import LAYERS, LINKS, found, have_lease, in_place, node, pulled
from tests.support.shared_store import store_with
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SharedLayers:
    monkeypatch.setattr(node_of_a_store, "QUIET", 0.01)
    return store_with(folder, LAYERS)


def leased(shared: SharedLayers) -> list[int]:
    """Return the numbers of the layers that have a lease."""
    return [number for number in range(len(LINKS)) if have_lease(shared, number)]


def pull_and_look(snapshots: SharedSnapshots, count: int) -> None:
    """Pull, and wait until the node has looked after the layers."""
    keeper = snapshots._in_place
    assert keeper
    assert pulled(snapshots, count) == count
    wait_until(lambda: len(keeper._known) == len(in_place(snapshots)))


def remove(snapshots: SharedSnapshots, *numbers: int) -> None:
    for key in [found(snapshots, number).key for number in numbers]:
        snapshots.remove(key)


def test_the_lease_goes_with_its_layer_and_gc_need_not_wait(
    folder: Path, shared: SharedLayers
) -> None:
    with node(folder, shared) as snapshots:
        pull_and_look(snapshots, 3)
        assert leased(shared) == [0, 1, 2]
        remove(snapshots, 2)
        wait_until(lambda: leased(shared) == [0, 1])
        remove(snapshots, 1, 0)
        wait_until(lambda: leased(shared) == [])
        assert len(shared.remove_unused(list(shared.unused(0)))) > len(LAYERS)
        assert pulled(snapshots, 1) == 0


def test_a_lease_stays_as_long_as_another_layer_needs_it(
    folder: Path, shared: SharedLayers
) -> None:
    with node(folder, shared) as snapshots:
        pull_and_look(snapshots, 1)
        # The same layer once more, in another namespace of containerd and in a snapshot of its own.
        again = snapshots.stat(found(snapshots, 0).key)
        keeper = snapshots._in_place
        assert keeper
        (one,) = in_place(snapshots)
        snapshots.prepare("other/1/made", "", {})
        layer = snapshots.stat("other/1/made").layer
        keeper.driver.apply_in_place(layer, "", one.image)
        snapshots.commit("other/2/again", "other/1/made", {})
        snapshots.remove(again.key)
        keeper.look_after_all()
        assert leased(shared) == [0]
        snapshots.remove("other/2/again")
        keeper.look_after_all()
        assert leased(shared) == []


def test_a_layer_whose_files_are_damaged_may_need_any_lease(
    folder: Path, shared: SharedLayers
) -> None:
    with node(folder, shared) as snapshots:
        pull_and_look(snapshots, 3)
        damaged = found(snapshots, 0).layer
        place = folder / "root" / damaged / PLACE
        place.write_text("damaged")
        remove(snapshots, 2)
        keeper = snapshots._in_place
        assert keeper
        keeper.look_after_all()
        assert leased(shared) == [0, 1, 2]


def test_a_process_that_ends_leaves_its_leases(folder: Path, shared: SharedLayers) -> None:
    with node(folder, shared) as snapshots:
        pull_and_look(snapshots, 2)
    assert leased(shared) == [0, 1]
    with node(folder, shared) as snapshots:
        pull_and_look(snapshots, 2)
        remove(snapshots, 1)
        wait_until(lambda: leased(shared) == [0])
