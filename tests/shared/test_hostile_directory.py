"""A writer of a store's directory who plants what is no object: nothing waits, or leads out of it."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.drivers.loading import make
from graphdriver.errors import BadArchiveError
from graphdriver.linux.regular_file import open_beneath
from graphdriver.shared import leases
from graphdriver.shared.availability import Availability
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import layer_key, link_key
from graphdriver.shared.layers import SharedLayers
from tests.support.command import graphdriver
from tests.support.shared_store import links_of, store_with

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

LAYERS = [tars.tar(tars.directory(b"./"), tars.file(b"%d" % one, b"content")) for one in range(2)]
LINKS = links_of(LAYERS)
LAYER = layer_key(LINKS[0].diff_id)
LINK = link_key(LINKS[0].chain_id)
FILES = (f"{LAYER}.erofs", f"{LAYER}.json", f"{LAYER}.headers", LINK)
SPARSE = 1 << 42
SECRET = "the content of a file outside"


def a_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_PATH)  # the path may be too long for a socket
    try:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def a_sparse_file(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(SPARSE)


PLANTED: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "link out": lambda path: path.symlink_to(f"{'../' * 20}etc/passwd"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "FIFO": os.mkfifo,
    "socket": a_socket,
    "device": lambda path: os.mknod(path, 0o644 | stat.S_IFCHR, os.makedev(1, 5)),  # zeros
    "directory": os.mkdir,
    "sparse": a_sparse_file,
}


@pytest.fixture
def shared(tmp_path: Path) -> SharedLayers:
    return store_with(tmp_path, LAYERS)


def planted(shared: SharedLayers, file: str, kind: str) -> Path:
    path = Path(shared.store.address, file)
    path.unlink()
    PLANTED[kind](path)
    return path


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (FILES[1], "FIFO"),
        *(
            pytest.param(file, kind, marks=pytest.mark.long)
            for file in FILES
            for kind in PLANTED
            if (file, kind) != (FILES[1], "FIFO")
        ),
    ],
)
def test_what_is_no_object_is_a_miss_and_is_found_and_removed(
    file: str, kind: str, shared: SharedLayers, tmp_path: Path
) -> None:
    path = planted(shared, file, kind)
    snapshots = SharedSnapshots(
        make("vfs"), str(tmp_path / "root"), ["sync=none"], shared=shared, wait=20
    )
    with closing(snapshots):
        if file.endswith("headers"):  # only who reads in place looks at them
            found = shared.find(LINKS[0])
            assert found
            assert shared.headers(found) == b""
        elif (file, kind) != (FILES[0], "sparse"):
            assert snapshots.prepare("default/1/extract", "", {REF: LINKS[0].chain_id})
    done = graphdriver("share", "verify", "--json", shared.store.address)
    damaged = json.loads(done.stdout)["damaged"]
    assert [one["key"] for one in damaged] == ([] if file == LINK else [FILES[0]])
    done = graphdriver("share", "verify", "--remove", shared.store.address)
    assert done.returncode == 0, done.stderr
    assert os.path.lexists(path) == (file == LINK)
    assert Path("/etc/passwd").exists()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["link", "FIFO", "directory"])
def test_a_push_does_not_write_through_it_and_says_which_file(
    kind: str, shared: SharedLayers, tmp_path: Path
) -> None:
    planted(shared, FILES[0], kind)
    before = Path("/etc/passwd").read_bytes()
    words = ("--work", str(tmp_path), shared.store.address, str(tmp_path / "image.tar"))
    done = graphdriver("share", "push", *words)
    assert done.returncode
    assert FILES[0] in done.stderr.decode()
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize(
    "name",
    [
        ".new",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("sha256", "chains", "leases")),
    ],
)
def test_a_directory_that_is_a_link_is_not_followed(
    name: str, shared: SharedLayers, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text(SECRET)
    place = Path(shared.store.address)
    if (place / name).exists():
        (place / name).rename(tmp_path / "away")
    (place / name).symlink_to(outside)
    store = DirectoryStore(str(place))
    image = f"{LAYER}.erofs"
    for call in (
        lambda: list(store.stored()),
        lambda: store.put(f"chained/{image}", io.BytesIO(b"content")),
        lambda: store.put(f"leases/{image}/node.lease", io.BytesIO()),
        lambda: store.read(f"{name}/kept"),
        lambda: store.remove(f"{name}/kept"),
    ):
        try:
            call()
        except (OSError, BadArchiveError) as error:
            assert SECRET not in str(error)
    graphdriver("share", "gc", "--unused-for", "0s", "--remove", str(place))
    assert os.listdir(outside) == ["kept"]


@pytest.mark.long
def test_gc_leaves_alone_what_has_no_name_of_ours(shared: SharedLayers) -> None:
    place = Path(shared.store.address)
    foreign = [
        place / "README",
        place / "chains/README",
        place / f"{LAYER}.erofs.dmverity",  # what containerd's own snapshotter has beside images
        place / "sha256/.snapshot/daily",
        place / "other" / os.fsdecode(b"\xff\n") / "file",
        place / os.fsdecode(b"sha256/\xff"),
    ]
    for one in foreign:
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_text("not ours")
    deep = place / "deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(30):  # longer than any path may be
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    for words in (("ls",), ("verify",), ("gc", "--unused-for", "0s", "--remove")):
        done = graphdriver("share", *words, str(place))
        assert done.returncode == 0, done.stderr
    assert all(one.exists() for one in foreign)
    assert not list((place / "sha256").rglob("*.erofs"))


def test_a_device_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mknod(tmp_path / "tape", 0o644 | stat.S_IFCHR, os.makedev(240, 77))  # no driver has it
    here = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="not a regular file"):  # and not ENXIO, as to open it would
        open_beneath(here, "tape")
    os.close(here)


@pytest.mark.long
def test_a_link_among_leases_hides_no_image(shared: SharedLayers) -> None:
    image = Path(shared.store.address, f"{LAYER}.erofs")
    lease = Path(shared.store.address, "leases", f"{LAYER}.erofs")
    lease.parent.mkdir(parents=True)
    lease.symlink_to("/etc")
    done = graphdriver("share", "gc", "--unused-for", "0s", "--remove", shared.store.address)
    assert done.returncode
    assert f"{LAYER}.erofs" in done.stderr.decode()
    assert image.exists()
    lease.unlink()
    done = graphdriver("share", "gc", "--unused-for", "0s", "--remove", shared.store.address)
    assert done.returncode == 0
    assert not image.exists()


@pytest.mark.parametrize("kind", ["link", "FIFO", "sparse"])
def test_what_is_planted_among_links_does_not_end_gc(kind: str, shared: SharedLayers) -> None:
    leases.take(cast(DirectoryStore, shared.store), f"{LAYER}.erofs", "node")
    planted = f"chains/sha256/ab/{'ab' * 32}.json"
    path = Path(shared.store.address, planted)
    path.parent.mkdir(exist_ok=True)
    PLANTED[kind](path)
    found = {one.key for one in shared.unused(-60)}
    assert planted in found
    assert LINK not in found


def test_what_is_planted_where_a_store_is_asked_first_is_an_answer(
    shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shared.store.address, link_key(f"sha256:{'0' * 64}"))
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    Availability(shared.store)._ask()
    assert "is away" not in caplog.text
