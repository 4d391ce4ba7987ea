"""The rules of the service, and the code that each broken one is answered with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from graphdriver.drivers.vfs import VfsDriver
from graphdriver.errors import UnsupportedError
from graphdriver.home import Home
from graphdriver.snapshotter import _messages_pb2 as pb
from graphdriver.snapshotter.snapshots import Snapshots
from tests.e2e.ground import tool
from tests.plugin.waiting import wait_until
from tests.snapshotter.containerd import mount
from tests.snapshotter.served import Calls, Snapshotter

NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXISTS = grpc.StatusCode.ALREADY_EXISTS
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

pytestmark = pytest.mark.root


def refused(code: grpc.StatusCode, call: Callable[[], object], *words: str) -> None:
    """See that a call is refused with a code, and a text that holds some words."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    told: Any = caught.value  # grpcio's errors are calls, too
    assert told.code() is code
    for word in words:
        assert word in told.details()


def chain(calls: Calls, *names: str) -> str:
    """Commit empty snapshots one upon the other; return the last one's name."""
    parent = ""
    for name in names:
        calls.prepare(f"active-{name}", parent)
        calls.commit(name, f"active-{name}")
        parent = name
    return parent


def shortened(mount: pb.Mount) -> tuple[str, str]:
    """Return options that name layers from the folder above them, and that: a page holds no more.

    containerd does the same.
    """
    options = list(mount.options)
    for at, option in enumerate(options):
        if option.startswith("lowerdir="):
            folders = option.removeprefix("lowerdir=").split(":")
            above = os.path.commonpath([os.path.dirname(folder) for folder in folders])
            above = above if len(folders) > 1 else os.path.dirname(above)
            names = (os.path.relpath(folder, above) for folder in folders)
            options[at] = f"lowerdir={':'.join(names)}"
            return ",".join(options), above
    return ",".join(options), "/"


def written(mounts: list[pb.Mount], place: Path, write: Callable[[Path], object]) -> None:
    """Mount what a call answered, write to it, and unmount it."""
    place.mkdir(exist_ok=True)
    for one in mounts:
        options, above = shortened(one)
        mount(one.type, one.source, str(place), options, above)
    try:
        write(place)
    finally:
        subprocess.run([tool("umount"), str(place)], check=True)


# --- what is made ---------------------------------------------------------------------------------


def test_a_snapshot_is_written_committed_and_seen_from_above(calls: Calls, folder: Path) -> None:
    place = folder / "place"
    written(calls.prepare("a"), place, lambda root: (root / "one").write_text("one"))
    calls.commit("one", "a")
    written(calls.prepare("b", "one"), place, lambda root: (root / "one").rename(root / "two"))
    written(calls.mounts("b"), place, lambda root: (root / "three").write_text("three"))
    calls.commit("two", "b")
    seen: list[list[str]] = []
    for name in ("one", "two"):
        view = calls.view(f"view-{name}", name)
        written(view, place, lambda root: seen.append(sorted(os.listdir(root))))
    assert seen == [["one"], ["three", "two"]]


def test_a_view_cannot_be_written_to(calls: Calls, folder: Path) -> None:
    for parent in ("", chain(calls, "one", "two")):
        mounts = calls.view(f"view-{parent}", parent)
        with pytest.raises(OSError, match="Read-only file system"):
            written(mounts, folder / "place", lambda root: (root / "file").touch())


def test_the_mounts_are_as_containerd_knows_them(snapshotter: Snapshotter) -> None:
    calls = snapshotter.calls
    (first,) = calls.prepare("first")
    assert first.type == "bind"
    assert set(first.options) == {"rw", "rbind"}
    assert os.stat(first.source).st_mode & 0o7777 == 0o755
    (of_one,) = calls.view("of-one", chain(calls, "one"))
    assert (of_one.type, set(of_one.options)) == ("bind", {"ro", "rbind"})
    (upon,) = calls.prepare("upon", chain(calls, "x", "y"))
    (of_two,) = calls.view("of-two", "y")
    if snapshotter.driver in ("vfs", "btrfs"):
        assert (upon.type, set(upon.options)) == ("bind", {"rw", "rbind"})
        assert (of_two.type, set(of_two.options)) == ("bind", {"ro", "rbind"})
        return
    names = [option.partition("=")[0] for option in upon.options]
    kinds = {"overlay2": "overlay", "fuse-overlayfs": "fuse3.fuse-overlayfs"}
    assert upon.type == of_two.type == kinds[snapshotter.driver]
    assert {"workdir", "upperdir", "lowerdir"} <= set(names)
    if snapshotter.driver == "overlay2":
        assert {"index=off", "metacopy=off", "redirect_dir=nofollow"} <= set(upon.options)
    lowers = next(option for option in of_two.options if option.startswith("lowerdir="))
    assert lowers.count(":") == 1
    assert not any(option.startswith(("upperdir=", "workdir=")) for option in of_two.options)


def test_what_is_known_of_a_snapshot(calls: Calls) -> None:
    before = time.time_ns()
    chain(calls, "below")
    calls.prepare("active", "below", label="value")
    info = calls.stat("active")
    assert (info.name, info.parent, info.kind) == ("active", "below", pb.ACTIVE)
    assert dict(info.labels) == {"label": "value"}
    assert info.created_at == info.updated_at
    assert before <= info.created_at.ToNanoseconds() <= time.time_ns()
    calls.commit("committed", "active", other="label")
    info = calls.stat("committed")
    assert (info.name, info.parent, info.kind) == ("committed", "below", pb.COMMITTED)
    assert dict(info.labels) == {"other": "label"}, "Commit replaces the labels"
    calls.view("view", "committed")
    assert calls.stat("view").kind == pb.VIEW


def test_labels_are_changed_whole_or_one_by_one(calls: Calls) -> None:
    calls.prepare("a", one="1", two="2")
    created = calls.stat("a").created_at
    told = calls.update("a", {"one": "x", "three": "3"}, ["labels.one", "labels.two"])
    assert dict(told.labels) == {"one": "x"}
    assert told.created_at == created
    assert told.updated_at.ToNanoseconds() > created.ToNanoseconds()
    assert dict(calls.update("a", {"four": "4"}, ["labels"]).labels) == {"four": "4"}
    assert dict(calls.update("a", {"five": "5"}).labels) == {"five": "5"}
    assert dict(calls.stat("a").labels) == {"five": "5"}
    assert not calls.update("a", {}, ["labels.five"]).labels
    for path in ("name", "parent", "kind", "created_at", "label"):
        refused(INVALID, partial(calls.update, "a", {}, [path]), path)


def test_snapshots_are_listed_and_found_by_filters(calls: Calls) -> None:
    chain(calls, "one", "two")
    calls.prepare("three", "two", **{"a.b/c": "d e"})
    assert [info.name for info in calls.list()] == ["one", "two", "three"]
    for text, names in {
        "name==one": ["one"],
        "kind==committed": ["one", "two"],
        "kind!=committed,parent==two": ["three"],
        "name~=^t": ["two", "three"],
        'labels."a.b/c"=="d e"': ["three"],
        'labels."a.b/c"': ["three"],
        "parent": ["two", "three"],
        "name==none": [],
    }.items():
        assert [info.name for info in calls.list(text)] == names, text
    assert [info.name for info in calls.list("name==one", "name==two")] == ["one", "two"]
    for text in ("name=", "name==", "==x", "name==a b", 'name~="("', "name==one name==two"):
        refused(INVALID, partial(calls.list, text), "the filter")


def test_usage_is_that_of_the_snapshot_alone(snapshotter: Snapshotter, folder: Path) -> None:
    calls = snapshotter.calls
    place = folder / "place"
    written(calls.prepare("a"), place, lambda root: (root / "file").write_bytes(bytes(100_000)))
    written(calls.mounts("a"), place, lambda root: os.link(root / "file", root / "again"))
    assert 100_000 <= calls.usage("a").size <= 130_000
    assert calls.usage("a").inodes == 2
    calls.commit("one", "a")
    wait_until(lambda: calls.usage("one").size)
    assert 100_000 <= calls.usage("one").size <= 130_000
    calls.prepare("b", "one")
    if snapshotter.driver in ("overlay2", "fuse-overlayfs"):
        assert calls.usage("b").size < 100_000
    calls.view("v", "one")
    assert (calls.usage("v").size, calls.usage("v").inodes) == (0, 0)


def test_a_size_is_kept_where_the_driver_can_and_else_no_hindrance(
    snapshotter: Snapshotter, folder: Path
) -> None:
    mounts = snapshotter.calls.prepare("a", **{"containerd.io/snapshot/max-size": "10M"})
    assert snapshotter.calls.stat("a").kind == pb.ACTIVE
    too_much = bytes(20 << 20)
    if snapshotter.driver == "btrfs":
        with pytest.raises(OSError, match="quota exceeded"):
            written(mounts, folder / "place", lambda root: synced(root / "file", too_much))
        assert "not heeded" not in snapshotter.log.read_text()
    else:
        written(mounts, folder / "place", lambda root: synced(root / "file", too_much))
        assert "max-size is not heeded" in snapshotter.log.read_text()


def synced(path: Path, data: bytes) -> None:
    """Write a file and have it on disk: only then every limit is known to hold."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def test_128_layers(calls: Calls, folder: Path) -> None:
    parent = ""
    for number in range(128):
        key = f"active-{number}"
        mounts = calls.prepare(key, parent)
        if number in (0, 64, 127):
            written(mounts, folder / "place", lambda root: (root / f"{number}").touch())  # noqa: B023
        parent = f"layer-{number}"
        calls.commit(parent, key)
    seen: list[str] = []
    written(calls.view("top", parent), folder / "place", lambda root: seen.extend(os.listdir(root)))
    assert sorted(seen) == ["0", "127", "64"]


# --- what is refused ------------------------------------------------------------------------------


def test_what_is_missing_or_taken_or_wrong(calls: Calls) -> None:
    chain(calls, "one", "two")
    calls.prepare("active", "two")
    calls.view("view", "two")
    missing: list[Callable[[], object]] = [
        lambda: calls.prepare("x", "nothing"),
        lambda: calls.view("x", "nothing"),
        lambda: calls.mounts("nothing"),
        lambda: calls.commit("x", "nothing"),
        lambda: calls.remove("nothing"),
        lambda: calls.stat("nothing"),
        lambda: calls.update("nothing", {}),
        lambda: calls.usage("nothing"),
    ]
    for call in missing:
        refused(NOT_FOUND, call, "'nothing' does not exist")
    for key in ("active", "view", "one"):
        refused(EXISTS, partial(calls.prepare, key, "two"), repr(key))
        refused(EXISTS, partial(calls.view, key, "two"), repr(key))
    refused(EXISTS, lambda: calls.commit("one", "active"), "'one'")
    for parent in ("active", "view"):
        refused(INVALID, partial(calls.prepare, "x", parent), "not committed")
        refused(INVALID, partial(calls.view, "x", parent), "not committed")
    refused(INVALID, lambda: calls.prepare(""), "empty")
    refused(INVALID, lambda: calls.commit("", "active"), "empty")
    refused(PRECONDITION, lambda: calls.remove("one"), "'two' stands on 'one'")
    refused(PRECONDITION, lambda: calls.remove("two"), "stands on 'two'")
    refused(PRECONDITION, lambda: calls.mounts("one"), "committed")
    refused(PRECONDITION, lambda: calls.commit("x", "view"), "view")
    refused(PRECONDITION, lambda: calls.commit("x", "one"), "committed")
    label = {"containerd.io/snapshot/uidmapping": "0:100000:65536"}
    refused(PRECONDITION, lambda: calls.prepare("x", "two", **label), "other owners")
    for key in ("x", ""):
        refused(NOT_FOUND, partial(calls.stat, key))


def test_snapshots_go_from_the_top_and_leave_nothing(snapshotter: Snapshotter) -> None:
    calls = snapshotter.calls
    chain(calls, "one", "two")
    calls.prepare("active", "two")
    calls.view("view", "two")
    calls.view("empty")
    for key in ("active", "view", "empty", "two", "one"):
        calls.remove(key)
    assert calls.list() == []
    wait_until(lambda: snapshotter.layers() == [])


# --- restarts -------------------------------------------------------------------------------------


def test_a_new_process_knows_what_the_killed_one_did(snapshotter: Snapshotter) -> None:
    chain(snapshotter.calls, "one", "two")
    snapshotter.calls.prepare("active", "two", label="value")
    before = [info.SerializeToString(deterministic=True) for info in snapshotter.calls.list()]
    mounts = snapshotter.calls.mounts("active")
    snapshotter.kill()
    snapshotter.start()
    after = [info.SerializeToString(deterministic=True) for info in snapshotter.calls.list()]
    assert after == before
    assert snapshotter.calls.mounts("active") == mounts
    snapshotter.calls.prepare("another", "two")
    assert snapshotter.calls.stat("another").parent == "two"


def test_a_second_one_is_told_who_is_there(snapshotter: Snapshotter) -> None:
    base = ["-m", "graphdriver", "snapshotter", snapshotter.driver, "--root", str(snapshotter.root)]

    def fails(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *base, *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode != 0
        return done.stderr

    assert snapshotter.process
    told = fails("--address", str(Path(snapshotter.address).parent / "other.sock"))
    assert f"is served by process {snapshotter.process.pid}" in told
    other = str(snapshotter.root.parent / "other")
    told = fails("--root", other, "--address", snapshotter.address)
    assert "another snapshotter listens" in told
    assert snapshotter.calls.list() == []


def test_a_home_of_a_docker_daemon_is_refused(folder: Path) -> None:
    home = Home(str(folder / "home"))
    home.claim("docker", "vfs", 1)
    home.close()
    with pytest.raises(UnsupportedError, match=r"for docker, and this is .* for containerd"):
        Snapshots(VfsDriver(), str(folder / "home"))


def test_the_socket_is_its_groups_and_goes_with_it(folder: Path) -> None:
    served = Snapshotter(folder, "vfs", "--group", "4")
    with served:
        found = os.stat(served.address)
        assert (found.st_mode & 0o7777, found.st_gid) == (0o660, 4)
    assert not os.path.exists(served.address)
    with served:  # the lock that is left is nobody's
        assert served.calls.list() == []
