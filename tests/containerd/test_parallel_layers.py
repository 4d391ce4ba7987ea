"""Layers of one image that are unpacked at the same time, as containerd 2.2 and later does it.

No Debian has that containerd yet, so a client here makes the calls of its unpacker: each layer is
prepared without a parent and applied, several at once; then they are committed from the lowest one
on, each with its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.conformance.plugin import tars
from graphdriver.conformance.snapshotter.calls import Calls
from tests.containerd.test_diff_service import Diffs, refused
from tests.support.containerd import Containerd
from tests.support.mounting import mounted
from tests.support.snapshotter import Snapshotter, on_driver

pytestmark = pytest.mark.root

ABLE = ("overlay2", "erofs", "fuse-overlayfs")
LAYERS = (
    tars.tar(
        tars.directory(b"etc", 0o750, uid=3, mtime=1000),
        tars.file(b"etc/hosts", b"below", mtime=2000),
        tars.directory(b"usr", mtime=3000),
        tars.directory(b"usr/lib", 0o750, gid=9, mtime=4000),
        tars.file(b"usr/lib/libc", b"library", mtime=6000),
        tars.symlink(b"lib", b"usr/lib", mtime=7000),
    ),
    tars.tar(tars.file(b"etc/new", mtime=8000), tars.whiteout(b"etc/.wh.hosts")),
    tars.tar(
        tars.file(b"lib/new", b"in usr/lib", mtime=8000),
        tars.hard_link(b"lib/again", b"usr/lib/libc"),
    ),
    tars.tar(
        tars.directory(b"usr/lib", 0o755, mtime=9000),
        tars.whiteout(b"usr/lib/.wh..wh..opq"),
        tars.file(b"usr/lib/only", mtime=9000),
    ),
)


@pytest.fixture
def snapshotter(request: pytest.FixtureRequest, folder: Path) -> Iterator[Snapshotter]:
    with on_driver(getattr(request, "param", "overlay2"), folder) as one:
        yield one


@pytest.fixture
def containerd(folder: Path, snapshotter: Snapshotter) -> Iterator[Containerd]:
    with Containerd(folder, snapshotter.address).running() as running:
        yield running


@pytest.fixture
def diffs(snapshotter: Snapshotter, containerd: Containerd) -> Diffs:
    return Diffs(snapshotter, containerd)


class Unpacker:
    """Unpacks an image, as containerd does it.

    Args:
        calls: the snapshotter's.
        diffs: the diff service's.
    """

    def __init__(self, calls: Calls, diffs: Diffs) -> None:
        self._calls = calls
        self._diffs = diffs

    def unpack(self, layers: Sequence[bytes]) -> str:
        """Unpack layers at the same time, from the lowest one on; return the key of the last one.

        Raises:
            RpcError: one was refused; it and those above it are removed.
        """
        digests = [self._diffs.ingest(layer) for layer in layers]
        new = [number for number in range(len(layers)) if not self._is_there(self.key(number))]
        with ThreadPoolExecutor(len(layers)) as threads:
            applied = [threads.submit(self._apply, number, digests[number]) for number in new]
        failure: BaseException | None = None
        for number, one in zip(new, applied, strict=True):
            failure = failure or one.exception()
            if failure is None:
                try:
                    below = self.key(number - 1) if number else ""
                    self._calls.commit(self.key(number), self._active(number), parent=below)
                    continue
                except grpc.RpcError as error:
                    failure = error
            self._calls.remove(self._active(number))
        if failure:
            raise failure
        return self.key(len(layers) - 1)

    @staticmethod
    def key(number: int) -> str:
        return f"default/{number}/layer"

    @staticmethod
    def _active(number: int) -> str:
        return f"default/1{number}/extract"

    def _is_there(self, key: str) -> bool:
        try:
            self._calls.stat(key)
        except grpc.RpcError:
            return False
        return True

    def _apply(self, number: int, digest: str) -> None:
        mounts = self._calls.prepare(self._active(number))
        self._diffs.apply(digest, mounts).result()


def in_order(calls: Calls, diffs: Diffs) -> str:
    """Unpack the layers one after the other."""
    parent = ""
    for number, layer in enumerate(LAYERS):
        mounts = calls.prepare(f"default/2{number}/extract", parent)
        diffs.apply(diffs.ingest(layer), mounts).result()
        calls.commit(f"default/3{number}/layer", f"default/2{number}/extract")
        parent = f"default/3{number}/layer"
    return parent


@pytest.mark.parametrize("snapshotter", ABLE, indirect=True)
def test_layers_that_came_at_once_are_as_those_that_came_in_order(
    snapshotter: Snapshotter, diffs: Diffs, folder: Path
) -> None:
    calls = snapshotter.calls
    seen = []
    for number, last in enumerate((Unpacker(calls, diffs).unpack(LAYERS), in_order(calls, diffs))):
        with mounted(calls.view(f"default/4{number}/look", last), folder / f"{number}") as root:
            seen.append(record(str(root)))
    assert seen[0] == seen[1]
    for number in range(1, len(LAYERS)):
        assert calls.stat(Unpacker.key(number)).parent == Unpacker.key(number - 1)
    found, _ = refused(lambda: calls.remove(Unpacker.key(0)))
    assert found.name == "FAILED_PRECONDITION"


@pytest.mark.parametrize("snapshotter", ["overlay2", "erofs"], indirect=True)
@pytest.mark.parametrize(
    "bad",
    [b"x" * 2048, tars.tar(tars.hard_link(b"x", b"nothing"))],
    ids=["damaged", "a link to nothing"],
)
def test_a_failed_layer_leaves_nothing_of_it_nor_of_those_above(
    snapshotter: Snapshotter, diffs: Diffs, bad: bytes, folder: Path
) -> None:
    calls = snapshotter.calls
    unpacker = Unpacker(calls, diffs)
    found, why = refused(lambda: unpacker.unpack([*LAYERS[:2], bad, LAYERS[3]]))
    assert found.name == "INVALID_ARGUMENT"
    assert "nothing" not in str(bad) or "'x' is a hard link to 'nothing'" in why
    assert {one.name for one in calls.list()} == {unpacker.key(0), unpacker.key(1)}
    assert len(snapshotter.layers()) == 2
    last = unpacker.unpack(LAYERS)
    with mounted(calls.view("default/4/look", last), folder / "shown") as root:
        assert (root / "lib/only").exists()


def test_a_kill_between_apply_and_commit_loses_nothing(
    snapshotter: Snapshotter, diffs: Diffs, folder: Path
) -> None:
    Unpacker(snapshotter.calls, diffs).unpack(LAYERS[:2])
    mounts = snapshotter.calls.prepare("default/8/extract")
    diffs.apply(diffs.ingest(LAYERS[2]), mounts).result()
    snapshotter.kill()
    snapshotter.start()
    calls = snapshotter.calls
    calls.commit("default/9/layer", "default/8/extract", parent=Unpacker.key(1))
    with mounted(calls.view("default/4/look", "default/9/layer"), folder / "shown") as root:
        assert (root / "usr/lib/new").read_bytes() == b"in usr/lib"
        assert (root / "lib").is_symlink()


def test_only_what_the_diff_service_filled_or_nothing_gets_a_parent(
    snapshotter: Snapshotter, diffs: Diffs, folder: Path
) -> None:
    calls = snapshotter.calls
    last = Unpacker(calls, diffs).unpack(LAYERS[:1])
    with mounted(calls.prepare("default/1/by-hand"), folder / "shown") as root:
        (root / ".wh.etc").touch()
    found, why = refused(
        lambda: calls.commit("default/2/by-hand", "default/1/by-hand", parent=last)
    )
    assert found.name == "FAILED_PRECONDITION"
    assert "diff service" in why
    assert "rebase" in why
    calls.prepare("default/1/empty")
    calls.commit("default/2/empty", "default/1/empty", parent=last)
    with mounted(calls.view("default/4/look", "default/2/empty"), folder / "empty") as root:
        assert (root / "etc/hosts").exists()


@pytest.mark.parametrize("snapshotter", ["vfs", "btrfs"], indirect=True)
def test_drivers_that_copy_the_parent_refuse_a_later_one(
    snapshotter: Snapshotter, diffs: Diffs
) -> None:
    calls = snapshotter.calls
    with pytest.raises(grpc.RpcError):
        Unpacker(calls, diffs).unpack(LAYERS[:2])
    calls.prepare("default/5/one")
    found, why = refused(
        lambda: calls.commit("default/6/one", "default/5/one", parent=Unpacker.key(0))
    )
    assert (found.name, "leave rebase out" in why) == ("FAILED_PRECONDITION", True)
    assert {one.name for one in calls.list()} == {Unpacker.key(0), "default/5/one"}


def test_a_wrong_parent_is_refused_and_the_snapshot_stays(
    snapshotter: Snapshotter, diffs: Diffs
) -> None:
    calls = snapshotter.calls
    last = Unpacker(calls, diffs).unpack(LAYERS[:2])
    calls.prepare("default/5/one")
    calls.prepare("default/5/other")
    for parent, code in (("default/0/none", "NOT_FOUND"), ("default/5/other", "INVALID_ARGUMENT")):
        found, _ = refused(lambda: calls.commit("default/6/one", "default/5/one", parent=parent))  # noqa: B023
        assert found.name == code
    calls.prepare("default/7/one", last)
    found, _ = refused(
        lambda: calls.commit("default/8/one", "default/7/one", parent=Unpacker.key(0))
    )
    assert found.name == "INVALID_ARGUMENT"
    calls.commit("default/8/one", "default/7/one", parent=last)
    calls.commit("default/6/one", "default/5/one", parent=last)
