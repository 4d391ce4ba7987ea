"""Which layers are garbage, by what is recorded and what stands on what."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.care.bolt import Tree
from graphdriver.care.containerd_names import read_names
from graphdriver.care.engine_locks import CONTAINERD, DOCKER, at_rest
from graphdriver.care.garbage import unneeded, unrecorded
from graphdriver.care.owners import EngineRecords, KnownLayer, UnreadError
from graphdriver.errors import GraphDriverError, InUseError
from graphdriver.homes import StoredLayer
from tests.support.bolt_pages import write_bolt


def stored(parents: Mapping[str, str | None]) -> dict[str, StoredLayer]:
    return {id: StoredLayer(id, parent, "") for id, parent in parents.items()}


def recorded(parents: Mapping[str, str | None], *named: str) -> EngineRecords:
    known = {id: KnownLayer(id, parent) for id, parent in parents.items()}
    return EngineRecords(known, frozenset(named))


def found(layers: Mapping[str, str | None], records: EngineRecords) -> list[str]:
    return [one.id for one in unrecorded(stored(layers), records)]


def test_a_layer_without_a_record_is_garbage() -> None:
    assert found({"base": "", "lost": "base"}, recorded({"base": ""})) == ["lost"]


def test_what_a_recorded_layer_stands_on_is_kept() -> None:
    layers = {"base": "", "middle": "base", "top": "middle"}
    assert not found(layers, recorded({"top": None}))


def test_parents_that_only_the_records_tell_are_kept() -> None:
    """A driver whose layers are copies need not know them any more."""
    layers: dict[str, str | None] = {"base": None, "top": None}
    assert not found(layers, recorded({"top": "base"}))


def test_a_layer_that_may_be_named_is_kept() -> None:
    layers = {"base": "", "perhaps": "base", "other": ""}
    assert not found(layers, recorded({"other": ""}, "perhaps"))


def test_children_come_before_their_parents() -> None:
    layers = {"a": "", "b": "c", "c": "a", "d": "a", "e": "b"}
    order = found({**layers, "other": ""}, recorded({"other": ""}))
    assert sorted(order) == sorted(layers)
    assert all(order.index(id) < order.index(layers[id]) for id in layers if layers[id])


def test_nothing_is_garbage_if_a_record_is_unread() -> None:
    records = EngineRecords({}, unread=("/some/file is damaged",))
    with pytest.raises(GraphDriverError, match="/some/file is damaged"):
        unrecorded(stored({"lost": ""}), records)


@pytest.mark.parametrize("records", [{}, {"other": "", "another": "other"}])
def test_nothing_is_garbage_if_no_layer_has_a_record(records: dict[str, str | None]) -> None:
    """Then they are the records of another home: one that was moved, or is of another daemon."""
    with pytest.raises(GraphDriverError, match="none of the 2 layers has a record"):
        found({"base": "", "top": "base"}, recorded(records))
    assert not found({}, recorded(records))


def test_nothing_is_garbage_if_a_needed_parent_is_unknown() -> None:
    with pytest.raises(GraphDriverError, match="parent of layer top"):
        found({"base": "", "top": None}, recorded({"top": None}))


@given(
    parents=st.dictionaries(st.integers(0, 30), st.lists(st.integers(0, 40), max_size=3)),
    needed=st.sets(st.integers(0, 30)),
)
def test_no_parent_of_what_is_kept_is_removed(
    parents: dict[int, list[int]], needed: set[int]
) -> None:
    """Whatever the parents are, in circles too."""
    texts = {str(id): [str(one) for one in above] for id, above in parents.items()}
    removed = unneeded(texts, {str(id) for id in needed})
    assert len(set(removed)) == len(removed)
    kept = texts.keys() - set(removed)
    assert not set(removed) & {str(id) for id in needed}
    assert not set(removed) & {one for id in kept for one in texts[id]}
    assert all(set(removed) & {id} or id in kept for id in texts)


# --- the proof that no engine runs ----------------------------------------------------------------


def databases(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("held", DOCKER)
def test_an_engine_that_has_any_of_its_databases_open_runs(tmp_path: Path, held: str) -> None:
    databases(tmp_path, DOCKER)
    with open(tmp_path / held, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InUseError, match=held), at_rest(str(tmp_path), DOCKER):
            pass
    with (
        at_rest(str(tmp_path), DOCKER),
        open(tmp_path / held, "rb") as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("names", [DOCKER, CONTAINERD])
def test_without_a_database_nothing_tells_whether_an_engine_runs(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    databases(tmp_path, names)
    os.unlink(tmp_path / names[0])
    with pytest.raises(GraphDriverError, match="unknown"), at_rest(str(tmp_path), names):
        pass


# --- containerd's own names -----------------------------------------------------------------------

KNOWN: Tree = {
    b"v1": {
        b"version": b"\x06",
        b"default": {
            b"images": {},
            b"snapshots": {
                b"ours": {b"a": {b"name": b"default/1/a"}, b"b": {b"name": b"default/2/b"}},
                b"overlayfs": {b"a": {b"name": b"default/3/a"}},
            },
        },
        b"k8s.io": {b"snapshots": {b"ours": {b"c": {b"name": b"k8s.io/4/c"}}}},
        b"moby": {b"leases": {}},
    },
    b"default": {b"sandboxes": {}},
}


def test_the_names_of_all_namespaces_and_snapshotters_are_read(tmp_path: Path) -> None:
    write_bolt(tmp_path / "meta.db", KNOWN)
    names = read_names(str(tmp_path / "meta.db"))
    assert names == {"default/1/a", "default/2/b", "default/3/a", "k8s.io/4/c"}


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {b"v1": {b"default": {}}},
        {b"v1": {b"version": b"\x0a"}},
        {b"v1": {b"version": b"\x01"}},
        {b"v1": {b"version": b"\x86"}},
        {b"v1": {b"version": b"\x06"}, b"v2": {}},
        {b"v1": {b"version": b"\x06", b"default": b"value"}},
        {b"v1": {b"version": b"\x06", b"default": {b"snapshots": b"value"}}},
        {b"v1": {b"version": b"\x06", b"default": {b"snapshots": {b"ours": b"value"}}}},
        {b"v1": {b"version": b"\x06", b"default": {b"snapshots": {b"ours": {b"a": b""}}}}},
        {b"v1": {b"version": b"\x06", b"default": {b"snapshots": {b"ours": {b"a": {}}}}}},
    ],
)
def test_a_database_that_is_not_understood_is_an_error(tmp_path: Path, tree: Tree) -> None:
    write_bolt(tmp_path / "meta.db", tree)
    with pytest.raises(UnreadError, match=r"meta\.db"):
        read_names(str(tmp_path / "meta.db"))
