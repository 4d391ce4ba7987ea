"""A shared store under the unpackers of containerd 2.3 and 2.4, which no Debian has yet.

A client here makes their calls, and does what containerd's metadata does with "exists already": it
looks for a committed snapshot by label and parent. From 2.4 on a layer also counts as here if the last
mount that Prepare answers is read-only ("staged"); it is committed without being fetched then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import pytest

from graphdriver.conformance.snapshotter.calls import EXISTS, code_of
from graphdriver.containerd.shared_layers import DIFF_ID, PARENT, REF
from graphdriver.shared.keys import link_key
from graphdriver.shared.layers import SharedLayers
from tests.containerd.test_diff_service import Diffs
from tests.support.containerd import Containerd
from tests.support.containerd_images import ten_layers
from tests.support.filesystems import unmount
from tests.support.leftovers import mounts_below
from tests.support.mounting import mounted
from tests.support.shared_store import image_of, links_of, store_with
from tests.support.snapshotter import Snapshotter

pytestmark = pytest.mark.root

LAYERS = ten_layers(20)
LINKS = links_of(LAYERS)
COMMITTED = 3
ALL = set(range(len(LAYERS)))


class Unpacker:
    """Unpacks an image, as containerd does it.

    Args:
        snapshotter: where.
        diffs: the diff service's calls.
        is_parallel: whether the layers get their parents with Commit (the capability ``rebase``).

    Attributes:
        names: the snapshots of the layers, by their chain IDs, as containerd's metadata has them.
        fetched: the numbers of the layers that came from the registry.
    """

    def __init__(self, snapshotter: Snapshotter, diffs: Diffs, *, is_parallel: bool) -> None:
        self.calls = snapshotter.calls
        self._diffs = diffs
        self._is_parallel = is_parallel
        self.names: dict[str, str] = {}
        self.fetched: set[int] = set()

    def unpack(self) -> str:
        """Unpack `LAYERS`; return the key of the last one's snapshot."""
        commits = []
        for number in range(len(LAYERS)):
            if (active := self._prepare(number)) is None:
                continue
            commits.append((number, active))
            if not self._is_parallel:
                self._commit(*commits.pop())
        for number, active in commits:
            self._commit(number, active)
        return self.names[LINKS[-1].chain_id]

    def _labels(self, number: int) -> Mapping[str, str]:
        link = LINKS[number]
        below = {PARENT: link.parent} if link.parent else {}
        return {REF: link.chain_id, DIFF_ID: link.diff_id} | below

    def _prepare(self, number: int) -> str | None:
        """Prepare and fill the snapshot of a layer; return its key, or None if the layer is here."""
        link = LINKS[number]
        parent = self.names[link.parent] if link.parent and not self._is_parallel else ""
        key = f"default/{number}/extract-123-abc {link.chain_id}"
        try:
            mounts = self.calls.prepare(key, parent, **self._labels(number))
        except grpc.RpcError as error:
            assert code_of(error) is EXISTS
            self.names[link.chain_id] = self._found(link.chain_id, parent)
            return None
        is_staged = "ro" in mounts[-1].options
        if not is_staged:
            self.fetched.add(number)
            self._diffs.apply(self._diffs.ingest(LAYERS[number]), mounts).result()
        return key

    def _found(self, ref: str, parent: str) -> str:
        found = self.calls.list(f'labels."{REF}"=={ref},parent=="{parent}"')
        (name,) = (one.name for one in found if one.kind == COMMITTED)
        assert self.calls.stat(name).kind == COMMITTED
        return str(name)

    def _commit(self, number: int, active: str) -> None:
        link = LINKS[number]
        name = f"default/{number}/{link.chain_id}"
        parent = self.names[link.parent] if link.parent and self._is_parallel else ""
        self.calls.commit(name, active, parent, **self._labels(number))
        self.names[link.chain_id] = name


@pytest.fixture
def shared(folder: Path) -> SharedLayers:
    return store_with(folder, LAYERS)


@contextlib.contextmanager
def unpacker(folder: Path, driver: str, *, is_parallel: bool) -> Iterator[Unpacker]:
    """Yield one on a snapshotter that has a store."""
    snapshotter = Snapshotter(
        folder, driver, "--shared", str(folder / "store"), "--shared-wait", "60"
    )
    with snapshotter, Containerd(folder, snapshotter.address).running() as containerd:
        yield Unpacker(snapshotter, Diffs(snapshotter, containerd), is_parallel=is_parallel)
    for point in mounts_below(snapshotter.root):
        unmount(Path(point))


def expect_whole(one: Unpacker, top: str, place: Path) -> None:
    """See that the layers show the image, each upon the one below it."""
    for link in LINKS[1:]:
        assert one.calls.stat(one.names[link.chain_id]).parent == one.names[link.parent]
    with mounted(one.calls.view("default/9/look", top), place) as root:
        assert (root / "srv/again").read_bytes() == b"another"
        assert (root / "many/0/7").read_bytes() == b"7"
        assert not (root / "srv/one").exists()


@pytest.mark.parametrize(
    ("driver", "missing"),
    [
        ("overlay2", set[int]()),
        pytest.param("erofs", {2, 5}, marks=pytest.mark.long),
        pytest.param("vfs", {0}, marks=pytest.mark.long),
        pytest.param("erofs", ALL, marks=pytest.mark.long),
    ],
)
def test_layers_one_after_the_other_come_from_the_store_or_are_fetched(
    driver: str, missing: set[int], folder: Path, shared: SharedLayers
) -> None:
    for link in (LINKS[number] for number in missing):
        image_of(shared, link).unlink()
    with unpacker(folder, driver, is_parallel=False) as one:
        top = one.unpack()
        assert one.fetched == missing
        expect_whole(one, top, folder / "shown")
        one.fetched.clear()
        assert one.unpack() == top  # pulled again: all of it is here
        assert one.fetched <= missing


@pytest.mark.long
def test_with_a_diff_id_no_link_is_needed_and_a_wrong_one_is_a_miss(
    folder: Path, shared: SharedLayers
) -> None:
    Path(shared.store.address, link_key(LINKS[0].chain_id)).unlink()
    with unpacker(folder, "overlay2", is_parallel=False) as one:
        other = {REF: LINKS[0].chain_id, DIFF_ID: LINKS[1].diff_id}
        assert one.calls.prepare("default/1/wrong", "", **other)
        assert one._prepare(0) is None


@pytest.mark.parametrize("driver", ["overlay2", pytest.param("erofs", marks=pytest.mark.long)])
def test_of_layers_at_the_same_time_only_the_first_one_comes_from_the_store(
    driver: str, folder: Path, shared: SharedLayers
) -> None:
    with unpacker(folder, driver, is_parallel=True) as one:
        top = one.unpack()
        assert one.fetched == ALL - {0}
        expect_whole(one, top, folder / "shown")
    log = (folder / "s.log").read_text()
    assert log.count("leave rebase out of the capabilities") == 1


@pytest.mark.long
@pytest.mark.parametrize("driver", ["vfs", "overlay2", "erofs"])
def test_a_snapshot_that_is_to_be_filled_never_looks_staged(driver: str, folder: Path) -> None:
    (folder / "store").mkdir()
    with unpacker(folder, driver, is_parallel=False) as one:
        for parent in ("", "default/1/below"):
            key = f"default/2/active on {parent}"
            mounts = [*one.calls.prepare(key, parent), *one.calls.mounts(key)]
            assert not [mount for mount in mounts if "ro" in mount.options]
            if not parent:
                one.calls.commit("default/1/below", key)
