"""A store that is full or read-only, that two fill at once, or that loses layers during a pull."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BrokenStreamError
from graphdriver.images.archive import ImageArchive
from graphdriver.images.layer import ImageLayer
from graphdriver.images.pushing import Pusher
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import layer_key
from graphdriver.shared.layers import IMAGE, SharedLayers
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import NotStoredError
from tests.support.command import graphdriver
from tests.support.full import PAGE, fill, tmpfs
from tests.support.shared_store import links_of, store_with

pytestmark = pytest.mark.root

LAYERS = [
    tars.tar(tars.directory(b"./"), tars.file(b"%d" % number, os.urandom(200_000)))
    for number in range(4)
]
LINKS = links_of(LAYERS)


@pytest.fixture
def full(tmp_path: Path) -> SharedLayers:
    """A store with all layers; their archive is beside it."""
    return store_with(tmp_path, LAYERS)


def push(full: SharedLayers, place: Path, work: str = "work") -> list[str]:
    """Push the layers into another store; return what became of them."""
    above = Path(full.store.address).parent
    with (
        closing(open_store(str(place), may_be_new=True)) as store,
        Pusher(SharedLayers(store), str(above / work)) as pusher,
        ImageArchive(str(above / "image.tar")) as archive,
    ):
        return [one.outcome for image in archive.images() for one in pusher.push(image)]


def objects(place: Path) -> dict[str, bytes]:
    """Return all files of a store, those that were never finished, too."""
    files = (one for one in place.rglob("*") if one.is_file())
    return {str(one.relative_to(place)): one.read_bytes() for one in files}


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Make a directory read-only, for the length of a ``with`` block."""
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_store_takes_no_half_layer_and_the_rest_when_there_is_room(
    full: SharedLayers, tmp_path: Path
) -> None:
    whole = objects(Path(full.store.address))
    with tmpfs(tmp_path / "small", 120) as place:
        with pytest.raises(OSError, match="No space left") as raised:
            push(full, place)
        assert raised.value.errno == errno.ENOSPC
        assert objects(place).items() <= whole.items()
        size = f"remount,size={10_000 * PAGE}"
        subprocess.run(["mount", "-o", size, str(place)], check=True)
        assert set(push(full, place)) == {"there", "new"}
        assert objects(place) == whole


def test_a_full_store_is_told(full: SharedLayers, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", 120) as place:
        words = ("push", "--work", str(tmp_path), str(place), str(tmp_path / "image.tar"))
        done = graphdriver("share", *words)
    assert done.returncode
    assert f"the store {place} failed: [Errno 28] No space left" in done.stderr.decode()


def said(*words: str | Path) -> str:
    """Run ``graphdriver share``, which must fail; return its error."""
    done = graphdriver("share", *map(str, words))
    assert done.returncode
    return done.stderr.decode()


@pytest.mark.long
def test_a_directory_for_work_that_is_full_or_read_only_is_told(
    full: SharedLayers, tmp_path: Path
) -> None:
    image, empty, work = tmp_path / "image.tar", tmp_path / "empty", tmp_path / "readonly"
    empty.mkdir()
    work.mkdir()
    with tmpfs(tmp_path / "small", 60) as place:
        error = said("push", "--work", place, empty, image)
        assert (
            f"layers cannot be made in {place}: the layer's tar cannot be stored: no space" in error
        )
        assert list(place.iterdir()) == []
        fill(place)
        error = said("pull", "--work", place, "--to", empty, full.store.address)
        assert f"layers cannot be made in {place}: No space left" in error
        assert "--work" in error
    with read_only(work):
        assert f"made in {work}: Read-only" in said(
            "push", "--work", work, tmp_path / "empty2", image
        )
    assert objects(empty).items() <= objects(Path(full.store.address)).items()


@pytest.mark.long
def test_a_store_that_takes_nothing_is_told_with_the_object(
    full: SharedLayers, tmp_path: Path
) -> None:
    image, place = tmp_path / "image.tar", Path(full.store.address)
    some = layer_key(LINKS[0].diff_id)
    (tmp_path / "empty" / "chains").mkdir(parents=True)
    with read_only(tmp_path / "empty"):
        error = said("push", "--work", tmp_path, tmp_path / "empty", image)
        assert f"Read-only file system: '{some}.json'" in error
    with tmpfs(tmp_path / "small", 20) as small:
        (small / "chains").mkdir()
        error = said("pull", "--work", tmp_path, "--to", small, place)
        assert f"No space left on device: '{some}.erofs'" in error
        assert objects(small).items() <= objects(place).items()
    with read_only(place):
        assert "Read-only file system: 'sha256/" in said("gc", "--unused-for=0s", "--remove", place)
        assert graphdriver("share", "verify", str(place)).returncode == 0
        done = graphdriver("share", "push", "--work", str(tmp_path), str(place), str(image))
        assert done.returncode == 0  # all of it is there
    assert list(DirectoryStore(str(place)).stored())


def test_an_error_of_the_first_store_is_not_taken_for_one_of_the_work(
    full: SharedLayers, tmp_path: Path
) -> None:
    class Failing(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "the disk fails")

    layer = ImageLayer(LINKS[0], lambda: contextlib.nullcontext(Failing()))
    (tmp_path / "other").mkdir()
    other = SharedLayers(DirectoryStore(str(tmp_path / "other"), may_be_new=True))
    with (
        Pusher(other, str(tmp_path / "work")) as pusher,
        pytest.raises(BrokenStreamError, match=r"a layer's source failed: .*the disk fails"),
    ):
        list(pusher.push([layer]))


def test_a_store_that_is_read_only_here_is_read_and_listed(full: SharedLayers) -> None:
    place = Path(full.store.address)
    with read_only(place), closing(DirectoryStore(str(place))) as store:
        shared = SharedLayers(store)
        found = shared.find(LINKS[0])
        assert found
        with closing(shared.tar(found)) as tar:
            assert tar.read(len(LAYERS[0])) == LAYERS[0]
            assert tar.read(1) == b""
        listed = list(store.stored())
        assert {one.key for one in listed} == set(objects(place))
        assert all(-5 < one.unused < 3600 for one in listed)
        with pytest.raises(OSError, match="Read-only"):
            store.put("sha256/aa/new.json", io.BytesIO(b"new"))


def test_two_that_push_at_once_leave_each_object_once(full: SharedLayers, tmp_path: Path) -> None:
    place = tmp_path / "both"
    place.mkdir()
    outcomes: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda work=work: outcomes.append(push(full, place, work)))
        for work in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(one) for one in outcomes] == [len(LAYERS)] * 2
    assert objects(place) == objects(Path(full.store.address))


def test_a_layer_that_is_removed_while_it_is_read_is_read_to_its_end(full: SharedLayers) -> None:
    found = full.find(LINKS[0])
    assert found
    with closing(full.tar(found)) as tar:
        first = tar.read(1000)
        full.store.remove(f"{found.key}{IMAGE}")
        rest = b"".join(iter(lambda: tar.read(1 << 20), b""))
    assert first + rest == LAYERS[0]


def test_a_layer_that_is_removed_before_it_is_read_is_a_miss(full: SharedLayers) -> None:
    found = full.find(LINKS[0])
    assert found
    full.store.remove(f"{found.key}{IMAGE}")
    with pytest.raises(NotStoredError):
        full.tar(found)
    assert full.find(LINKS[0]) is None
