"""What a node reads in place stays in the store, for as long as the node renews its lease."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import LayerDamagedError
from graphdriver.shared import leases
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import LEASES, link_key
from graphdriver.shared.layers import IMAGE, RECORD, SharedLayers
from graphdriver.shared.store import InPlaceStore, NotStoredError
from tests.support.containerd_images import ten_layers
from tests.support.fuse_store import fuse_store
from tests.support.shared_store import image_of, links_of, store_with

pytestmark = pytest.mark.root

OLD = 100 * 86_400
DAY = 86_400.0


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedLayers]:
    shared = store_with(tmp_path, ten_layers(5)[:2])
    with closing(shared.store):
        age(shared)
        yield shared


def store_of(shared: SharedLayers) -> InPlaceStore:
    assert shared.store.in_place
    return shared.store.in_place


def age(shared: SharedLayers, seconds: float = OLD, below: str = "") -> None:
    """Make objects older by so many seconds."""
    for one in store_of(shared).stored(below):
        path = Path(store_of(shared).address, one.key)
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def images(shared: SharedLayers) -> list[str]:
    return sorted(one.key for one in shared.store.stored() if one.key.endswith(IMAGE))


def unused(shared: SharedLayers) -> set[str]:
    return {one.key for one in shared.unused(DAY)}


def test_image_and_record_are_used_as_long_as_a_node_has_a_lease(shared: SharedLayers) -> None:
    one, other = images(shared)
    leases.take(store_of(shared), one, "a")
    age(shared, below="chained/")
    left = unused(shared)
    assert one not in left
    assert one.replace(IMAGE, RECORD) not in left
    assert {other, other.replace(IMAGE, RECORD)} <= left
    assert leases.nodes(store_of(shared), one) == ["a"]


@pytest.mark.parametrize("number", [0, 1])  # by its diff ID, and by its chain ID
def test_the_link_to_a_layer_with_a_lease_is_kept(number: int, tmp_path: Path) -> None:
    tree = tars.tar(tars.directory(b"./"))
    layers = [tree, tars.tar(tars.file(b"a"))]
    shared = store_with(tmp_path, layers)
    age(shared)
    links = links_of(layers)
    leases.take(
        store_of(shared), str(image_of(shared, links[number]).relative_to(tmp_path / "store")), "a"
    )
    for _ in range(2):  # to look does not count as use
        left = unused(shared)
        assert link_key(links[number].chain_id) not in left
        assert link_key(links[1 - number].chain_id) in left


def test_a_lease_is_renewed(shared: SharedLayers) -> None:
    one, _ = images(shared)
    for _ in range(3):
        leases.take(store_of(shared), one, "a")
        age(shared, leases.GRACE - 60, LEASES)
        assert one not in unused(shared)


def test_a_node_that_died_loses_its_lease_after_the_grace_time(shared: SharedLayers) -> None:
    one, _ = images(shared)
    leases.take(store_of(shared), one, "a")
    age(shared, leases.GRACE + 60, LEASES)
    left = unused(shared)
    assert one in left
    assert any(map(leases.is_lease, left))  # it is removed with the others
    assert leases.remove_unless_leased(shared.store, one)


def test_each_node_has_its_own_lease(shared: SharedLayers) -> None:
    one, _ = images(shared)
    for node in ("a", "b"):
        leases.take(store_of(shared), one, node)
    age(shared, leases.GRACE + 60, LEASES)
    leases.take(store_of(shared), one, "b")
    assert leases.nodes(store_of(shared), one) == ["b"]
    assert one not in unused(shared)


def test_a_lease_that_is_taken_at_the_last_moment_saves_the_image(shared: SharedLayers) -> None:
    one, _ = images(shared)
    found = unused(shared)
    assert one in found
    leases.take(store_of(shared), one, "a")
    assert not leases.remove_unless_leased(shared.store, one)
    assert shared.store.size(one) > 0


class KilledError(BaseException):
    """What a kill is to the code that it ends."""


def test_a_removal_that_was_killed_gives_a_leased_image_its_key_back(shared: SharedLayers) -> None:
    one, other = images(shared)
    store = store_of(shared)

    def killed() -> bool:
        raise KilledError

    for image in (one, other):
        with pytest.raises(KilledError):
            store.remove_unless(image, killed)
    leases.take(store, one, "a")
    assert images(shared) == []
    removed = {found.key for found in shared.remove_unused(list(shared.unused(2 * OLD)))}
    assert images(shared) == [one]
    assert removed == {f"{other}.removed"}
    assert not list(Path(store.address).rglob("*.removed"))


def test_nothing_of_a_layer_is_removed_whose_lease_was_taken_at_the_last_moment(
    shared: SharedLayers,
) -> None:
    one, other = images(shared)
    leases.take(store_of(shared), one, "gone")
    age(shared, below=LEASES)
    found = list(shared.unused(DAY))
    leases.take(store_of(shared), one, "gone")
    removed = {found.key for found in shared.remove_unused(found)}
    assert other in removed
    assert not [key for key in removed if one.removesuffix(IMAGE) in key]
    assert leases.nodes(store_of(shared), one) == ["gone"]
    assert shared.store.size(one.replace(IMAGE, RECORD)) > 0


def test_a_node_opens_nothing_whose_removal_did_not_see_its_lease(shared: SharedLayers) -> None:
    one, _ = images(shared)
    store, is_away, may_ask = store_of(shared), threading.Event(), threading.Event()

    def is_needed() -> bool:
        is_away.set()
        may_ask.wait(60)
        return bool(leases.nodes(store, one))

    removing = threading.Thread(target=store.remove_unless, args=(one, is_needed))
    removing.start()
    is_away.wait(60)
    leases.take(store, one, "a")
    with pytest.raises(NotStoredError):
        store.touch(one)
    may_ask.set()
    removing.join()
    store.touch(one)  # the lease was seen


def test_without_a_writable_store_there_is_no_lease(
    shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = images(shared)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Read-only"):
        patched.setattr(os, "mkdir", read_only)
        leases.take(store_of(shared), one, "a")
    assert leases.nodes(store_of(shared), one) == []


@pytest.mark.parametrize("ahead", [-30 * 86_400, 30 * 86_400])
def test_a_lease_ends_by_the_clock_of_the_store_and_not_of_a_node(
    ahead: int, tmp_path: Path
) -> None:
    backing = Path(store_with(tmp_path, ten_layers(5)[:1]).store.address)
    with (
        fuse_store(backing, tmp_path / "mount", ahead) as mount,
        closing(DirectoryStore(str(mount.point))) as store,
    ):
        shared = SharedLayers(store)
        (image,) = images(shared)
        assert unused(shared) == set()
        age(shared)
        leases.take(store, image, "a")
        assert leases.nodes(store, image) == ["a"]
        assert not {image, image.replace(IMAGE, RECORD)} & unused(shared)
        age(shared, leases.GRACE - 60, LEASES)
        assert leases.nodes(store, image) == ["a"]
        leases.take(store, image, "a")  # it is renewed
        age(shared, leases.GRACE - 60, LEASES)
        assert leases.nodes(store, image) == ["a"]
        age(shared, 120, LEASES)
        assert leases.nodes(store, image) == []
        assert image in unused(shared)


# --- giving back ----------------------------------------------------------------------------------


@pytest.fixture
def mine(shared: SharedLayers) -> leases.NodeLeases:
    return leases.NodeLeases(store_of(shared))


def test_leases_that_no_layer_needs_are_given_back_and_those_of_others_are_not(
    shared: SharedLayers, mine: leases.NodeLeases
) -> None:
    one, other = images(shared)
    for image in (one, other):
        mine.take(image, "a")
        leases.take(store_of(shared), image, "b")
    mine.give_back_rest("a", lambda: {other})
    assert leases.nodes(store_of(shared), one) == ["b"]
    assert leases.nodes(store_of(shared), other) == ["a", "b"]
    assert mine.taken("a") == {other}
    mine.give_back_rest("b", set)  # another home, of another process
    assert leases.nodes(store_of(shared), one) == ["b"]


def test_a_lease_stays_while_a_layer_is_made_that_needs_it(
    shared: SharedLayers, mine: leases.NodeLeases
) -> None:
    one, _ = images(shared)
    with mine.kept(one), mine.kept(one):
        mine.take(one, "a")
        mine.give_back_rest("a", set)
        assert leases.nodes(store_of(shared), one) == ["a"]

    def made_meanwhile() -> set[str]:  # behind the place where the list of layers has come
        with mine.kept(one):
            mine.take(one, "a")
        return set()

    mine.give_back_rest("a", made_meanwhile)
    assert leases.nodes(store_of(shared), one) == ["a"]
    mine.give_back_rest("a", set)
    assert leases.nodes(store_of(shared), one) == []


def test_a_lease_that_is_taken_while_it_is_given_back_is_there(
    shared: SharedLayers, mine: leases.NodeLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = images(shared)
    mine.take(one, "a")
    give_back = leases.give_back
    taker = threading.Thread(target=mine.take, args=(one, "a"))

    def while_one_is_taken(store: InPlaceStore, image: str, node: str) -> None:
        taker.start()
        taker.join(0.2)  # it waits
        give_back(store, image, node)

    monkeypatch.setattr(leases, "give_back", while_one_is_taken)
    mine.give_back_rest("a", set)
    taker.join()
    assert leases.nodes(store_of(shared), one) == ["a"]


def test_nothing_is_given_back_if_the_layers_cannot_be_looked_at(
    shared: SharedLayers, mine: leases.NodeLeases
) -> None:
    one, _ = images(shared)
    mine.take(one, "a")

    def damaged() -> set[str]:
        raise LayerDamagedError("the record is damaged")

    with pytest.raises(LayerDamagedError):
        mine.give_back_rest("a", damaged)
    assert leases.nodes(store_of(shared), one) == ["a"]
