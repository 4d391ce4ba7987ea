"""A container in a user namespace: its owners are shifted, and nobody copies its image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from graphdriver.abilities import Mount
from graphdriver.containerd.remap import GIDS, UIDS, remap_of
from graphdriver.errors import UnsupportedError
from tests.containerd.shifting import shifted
from tests.containerd.test_service import INVALID, PRECONDITION, refused
from tests.support.containerd import Containerd, imported
from tests.support.containerd_images import busybox
from tests.support.filesystems import unmount
from tests.support.ground import tool
from tests.support.mounting import mount, mounted
from tests.support.remapped import HOST, MAP, WITHIN, owners_inside
from tests.support.snapshotter import Snapshotter

LABELS = {UIDS: MAP, GIDS: MAP}

pytestmark = pytest.mark.root


def base(snapshotter: Snapshotter, place: Path) -> str:
    """Commit a snapshot with a file of root's and one of user 7's and group 8's."""
    with mounted(snapshotter.calls.prepare("base-active"), place) as root:
        for name, uid, gid in (("roots", 0, 0), ("anothers", 7, 8)):
            (root / name).touch()
            os.chown(root / name, uid, gid)
    place.rmdir()
    snapshotter.calls.commit("base", "base-active")
    return "base"


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def made_by(id: int, path: Path) -> None:
    """Make a file as the container's root would: ours has no id there, and makes nothing."""
    os.setegid(id)
    os.seteuid(id)
    try:
        path.touch()
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_owners_are_shifted_and_the_image_is_as_it_was(
    snapshotter: Snapshotter, folder: Path
) -> None:
    folder.chmod(0o711)  # the container's root passes through
    calls = snapshotter.calls
    parent = base(snapshotter, folder / "place")
    (told,) = calls.prepare("one", parent, **LABELS)
    with shifted(told, folder / "place") as root:
        assert owner(root) == (HOST, HOST)
        assert owner(root / "roots") == (HOST, HOST)
        assert owner(root / "anothers") == (HOST + 7, HOST + 8)
        made_by(HOST, root / "new")
        os.chown(root / "new", HOST + 7, HOST)
        os.chown(root / "roots", HOST + 1, HOST)
        os.chown(root, HOST + 5, HOST)
    assert calls.mounts("one") == [told]
    with shifted(told, folder / "place") as root:
        assert owner(root / "new") == (HOST + 7, HOST)
        assert owner(root / "roots") == (HOST + 1, HOST)
        assert owner(root) == (HOST + 5, HOST)
    with mounted(calls.view("as-it-was", parent), folder / "place") as root:
        assert [owner(root / name) for name in (".", "roots", "anothers")] == [
            (0, 0),
            (0, 0),
            (7, 8),
        ]
    (told,) = calls.view("shown", parent, **LABELS)
    with shifted(told, folder / "other") as root:
        assert owner(root / "anothers") == (HOST + 7, HOST + 8)


def test_ids_may_be_in_several_ranges(snapshotter: Snapshotter, folder: Path) -> None:
    several = f"0:{HOST}:5,5:{HOST + 50}:100"
    parent = base(snapshotter, folder / "place")
    (told,) = snapshotter.calls.prepare("one", parent, **{UIDS: several, GIDS: MAP})
    between = ":" if snapshotter.driver == "fuse-overlayfs" else ","
    assert [one for one in told.options if several.replace(",", between) in one]


def test_what_containerd_has_shifted_already_is_left_as_it_is(
    snapshotter: Snapshotter, folder: Path
) -> None:
    calls = snapshotter.calls
    with mounted(
        calls.prepare("copy", base(snapshotter, folder / "place")), folder / "place"
    ) as root:
        for path in (root, *root.iterdir()):
            os.chown(path, HOST, HOST)
    calls.commit("copied", "copy")
    (told,) = calls.prepare("one", "copied", **LABELS)
    with mounted([told], folder / "place") as root:
        assert owner(root) == owner(root / "roots") == (HOST, HOST)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ({UIDS: MAP}, f"{GIDS} is missing"),
        ({GIDS: MAP}, f"{UIDS} is missing"),
        ({UIDS: "0:1", GIDS: MAP}, "'0:1', not a list of CONTAINER-ID:HOST-ID:LENGTH"),
        ({UIDS: "0:1:0", GIDS: MAP}, "'0:1:0', not a list"),
        ({UIDS: MAP, GIDS: ""}, "'', not a list"),
    ],
)
@pytest.mark.parametrize("snapshotter", ["vfs"], indirect=True)
def test_labels_that_are_no_maps_are_refused(
    snapshotter: Snapshotter, labels: dict[str, str], what: str
) -> None:
    refused(INVALID, lambda: snapshotter.calls.prepare("one", **labels), what)
    assert snapshotter.layers() == []


def test_a_type_of_mount_that_nobody_shifts_is_told() -> None:
    remap = remap_of(LABELS)
    assert remap
    with pytest.raises(UnsupportedError, match="a mount of type ext4 cannot remap owners"):
        remap.applied(Mount("ext4", "/dev/loop0", ("rw",)), is_new=True)


def test_a_layer_that_containerd_would_show_empty_is_told(folder: Path) -> None:
    remap = remap_of(LABELS)
    assert remap
    for name in ("layers/1", "layers/2"):
        (folder / name).mkdir(parents=True)
    told = Mount("overlay", "overlay", (f"lowerdir={folder}/layers/1:{folder}/layers/2",))
    assert remap.applied(told, is_new=True) != told
    mount("tmpfs", "image", str(folder / "layers/2"), "")
    try:
        with pytest.raises(UnsupportedError, match=r"layers/2 is a mount of its own"):
            remap.applied(told, is_new=True)
    finally:
        unmount(folder / "layers/2")


def test_a_filesystem_that_cannot_do_it_is_told(folder: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    merged = folder / "merged"
    subprocess.run([tool("fuse-overlayfs"), "-o", options, str(merged)], check=True)
    try:
        with Snapshotter(folder, "vfs", root=merged / "snapshots") as snapshotter:
            prepare = snapshotter.calls.prepare
            refused(
                PRECONDITION, lambda: prepare("one", **LABELS), "to remap owners: ", "remap-ids"
            )
            assert snapshotter.layers() == []
            assert snapshotter.calls.list() == []
    finally:
        subprocess.run([tool("umount"), str(merged)], check=True)


def test_containerd_may_copy_an_image_and_shift_it_itself(
    snapshotter: Snapshotter, folder: Path
) -> None:
    folder.chmod(0o711)  # the container's root passes through
    with Containerd(folder, snapshotter.address).running() as containerd:
        imported(containerd, folder, [busybox()])
        assert owners_inside(containerd, "--uidmap", MAP, "--gidmap", MAP) == WITHIN
