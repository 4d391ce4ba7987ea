"""A directory in which root may not do what it wants: NFS with root_squash, or wrong owners.

A FUSE server refuses single calls; so does the kernel to a thread that is another user for filesystems.
"""

from __future__ import annotations

import ctypes
import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.containerd import publishing
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import layer_key
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.leases import take
from graphdriver.shared.store import DeniedError
from tests.containerd.test_shared_layers import LAYERS, LINKS, files, pulled
from tests.containerd.test_store_away import node
from tests.containerd.test_unpublished import commit, publishing_node, root, waiting
from tests.support.command import graphdriver
from tests.support.containerd_images import write_image
from tests.support.fuse_store import FuseStore, fuse_store
from tests.support.shared_store import store_with
from tests.support.waiting import wait_until

__all__ = ["root"]  # a fixture

pytestmark = pytest.mark.root

FEW = LAYERS[:3]


@pytest.fixture
def served(folder: Path) -> Iterator[FuseStore]:
    """A store with three layers, through FUSE."""
    store_with(folder, FEW)
    with fuse_store(folder / "store", folder / "mounted") as one:
        yield one


@pytest.mark.parametrize("in_place", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("call", "suffix"),
    [
        ("lookup", ""),
        ("opendir", ""),
        ("open", "json"),
        pytest.param("open", "erofs", marks=pytest.mark.long),
    ],
)
def test_layers_that_may_not_be_read_are_pulled_as_usual_and_that_is_said_once(
    call: str,
    suffix: str,
    in_place: bool,
    served: FuseStore,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    served.faults(suffix=suffix, denied=[call])
    with node(folder, str(served.point), in_place=in_place) as snapshots:
        for _ in range(3):
            assert pulled(snapshots, LINKS[:3]) == 0
            snapshots.remove(f"default/0/extract {LINKS[0].chain_id}")
        assert caplog.text.count("may not be read, and are pulled as usual") == 1
        assert "Permission denied: may not" in caplog.text
        assert f": '{served.point}" in caplog.text
        served.faults()
        assert pulled(snapshots, LINKS[:3]) == 3
        assert files(snapshots, LINKS[2])
    assert "is away" not in caplog.text
    assert "is not taken from the store" not in caplog.text


def test_layers_are_fetched_where_no_lease_may_be_made_and_that_is_said_once(
    served: FuseStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served.faults(suffix="", denied=["mkdir", "create"])
    with node(folder, str(served.point), in_place=True) as snapshots:
        assert pulled(snapshots, LINKS[:3]) == 3
        assert files(snapshots, LINKS[2])
        assert snapshots._in_place
        assert not list(snapshots._in_place.driver.tars_in_place())
    assert caplog.text.count("is not read in place") == 1
    assert f"may not write in it; on NFS root may be nobody (root_squash): '{served.point}" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        (["mkdir"], "write in it; on NFS root may be nobody (root_squash): 'STORE'"),
        (["create"], "write in it; on NFS root may be nobody (root_squash): 'STORE/.new'"),
        (["write"], "write in it; on NFS root may be nobody (root_squash): 'STORE/.new'"),
        (
            ["link", "rename"],
            "write in it; on NFS root may be nobody (root_squash): 'STORE/sha256/",
        ),
        (["opendir"], "read it; on NFS root may be nobody (root_squash): 'STORE'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_push_names_the_right_and_the_path(calls: Sequence[str], told: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with fuse_store(folder / "empty", folder / "mounted") as one:
        shared = SharedLayers(DirectoryStore(str(one.point), may_be_new=True))
        one.faults(suffix="", denied=calls)
        with pytest.raises(DeniedError) as caught:
            shared.store.put(f"{layer_key(LINKS[0].diff_id)}.json", io.BytesIO(b"content"))
        assert told.replace("STORE", str(one.point)) in str(caught.value)
        one.faults()
    assert not list((folder / "empty").rglob("*.json"))


@pytest.mark.long
def test_the_command_says_so(folder: Path) -> None:
    (folder / "empty").mkdir()
    write_image(folder / "image.tar", "a:b", FEW)
    with fuse_store(folder / "empty", folder / "mounted") as one:
        one.faults(suffix="", denied=["mkdir"])
        done = graphdriver("share", "push", str(one.point), str(folder / "image.tar"))
    said = "Permission denied: may not write in it; on NFS root may be nobody (root_squash)"
    assert f"the store {one.point} failed: [Errno 13] {said}: '{one.point}'" in done.stderr.decode()
    assert done.returncode == 1


def test_what_may_not_be_published_waits_and_that_is_said_once(
    folder: Path, root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(publishing, "QUIET", 0.0)
    (folder / "empty/chains").mkdir(parents=True)
    with fuse_store(folder / "empty", folder / "mounted") as one:
        one.faults(suffix="", denied=["mkdir"])
        shared = SharedLayers(DirectoryStore(str(one.point)))
        with publishing_node(root, shared) as snapshots:
            below = ""
            for number in range(3):
                below = commit(snapshots, number, below)
            wait_until(lambda: caplog.text.count("was not published") == 3)
        one.faults()
        with publishing_node(root, shared):
            wait_until(lambda: not waiting(root))
    lines = [one for one in caplog.records if "was not published" in one.getMessage()]
    assert [one.levelname for one in lines] == ["WARNING", "INFO", "INFO"]
    assert "may not write in it" in lines[0].getMessage()


def test_the_kernel_refuses_as_the_server_does(folder: Path) -> None:
    shared = store_with(folder, FEW)
    place = Path(shared.store.address)
    found = shared.find(LINKS[0])
    assert found

    def refused(call: Callable[[], object]) -> str:
        with pytest.raises(DeniedError) as caught:
            as_nobody(call)
        return re.sub(r"; on NFS [^:]*", "", str(caught.value))

    folder.chmod(0o755)
    image = f"{found.key}.erofs"
    assert as_nobody(lambda: shared.find(LINKS[0])) == found
    (place / f"{found.key}.headers").unlink()
    for call, path in (
        (lambda: shared.store.put(f"{found.key}.headers", io.BytesIO(b"content")), f"{place}/.new"),
        (lambda: take(DirectoryStore(str(place)), image, "node"), place),
    ):
        assert refused(call) == f"[Errno 13] Permission denied: may not write in it: '{path}'"
    told = f"may not write in it: '{place}/{found.key.rpartition('/')[0]}'"
    assert told in refused(lambda: shared.store.remove(f"{found.key}.json"))
    assert told in refused(lambda: shared.remove_wrong(image))
    (place / f"{found.key}.json").chmod(0o600)
    assert f"may not read it: '{place}/{found.key}.json'" in refused(lambda: shared.find(LINKS[0]))
    for path in (place / "chains", place):
        path.chmod(0o700)
        assert f"read it: '{path}" in refused(lambda: shared.link_of(LINKS[0].chain_id))
        assert f"read it: '{path}'" in refused(lambda: list(shared.store.stored()))
    place.chmod(0o744)
    node_store = DirectoryStore(str(place))
    assert f"search it: '{place}'" in refused(lambda: node_store.size(image))


def as_nobody(call: Callable[[], object]) -> object:
    """Call something in a thread that is nobody for filesystems, without root's rights there."""
    result: list[object] = []
    errors: list[BaseException] = []

    def run() -> None:
        libc = ctypes.CDLL(None)
        libc.setfsgid(65534)
        libc.setfsuid(65534)
        try:
            result.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]
