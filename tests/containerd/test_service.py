"""The service as it is ours; what every snapshotter must do stands in `tests.conformance`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import UnsupportedError
from graphdriver.serving.home import Home
from tests.support.filesystems import sync
from tests.support.mounting import mounted
from tests.support.signals import signal_another_thread
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

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


# --- what is made ---------------------------------------------------------------------------------


def written(mounts: list[pb.Mount], place: Path, write: Callable[[Path], object]) -> None:
    """Mount what a call answered, write to it, and unmount it."""
    with mounted(mounts, place) as root:
        write(root)


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
    is_fuse = snapshotter.driver == "fuse-overlayfs"
    assert upon.type == of_two.type == ("fuse3.fuse-overlayfs" if is_fuse else "overlay")
    assert {"workdir", "upperdir", "lowerdir"} <= set(names)
    if not is_fuse:
        assert {"index=off", "redirect_dir=nofollow"} <= set(upon.options)
        assert not {"metacopy", "xino"} & set(names)  # BuildKit does not know them
    lowers = next(option for option in of_two.options if option.startswith("lowerdir="))
    assert lowers.count(":") == 1
    assert not any(option.startswith(("upperdir=", "workdir=")) for option in of_two.options)


def test_usage_is_that_of_the_snapshot_alone(snapshotter: Snapshotter, folder: Path) -> None:
    calls = snapshotter.calls
    place = folder / "place"
    written(calls.prepare("a"), place, lambda root: (root / "file").write_bytes(bytes(100_000)))
    written(calls.mounts("a"), place, lambda root: os.link(root / "file", root / "again"))
    sync(snapshotter.root)  # btrfs counts what is on disk
    assert 100_000 <= calls.usage("a").size <= 130_000
    assert calls.usage("a").inodes == 2
    calls.commit("one", "a")
    wait_until(lambda: calls.usage("one").size)
    assert 100_000 <= calls.usage("one").size <= 130_000
    calls.prepare("b", "one")
    if snapshotter.driver != "vfs":  # which copies the parent
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
        assert "ignoring label" not in snapshotter.log.read_text()
    else:
        written(mounts, folder / "place", lambda root: synced(root / "file", too_much))
        assert "ignoring label containerd.io/snapshot/max-size: " in snapshotter.log.read_text()


def synced(path: Path, data: bytes) -> None:
    """Write a file and have it on disk: only then every limit is known to hold."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


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
    refused(PRECONDITION, lambda: calls.remove("one"), "'two' is a child of 'one'")
    refused(PRECONDITION, lambda: calls.remove("two"), "is a child of 'two'")
    refused(PRECONDITION, lambda: calls.mounts("one"), "committed")
    refused(PRECONDITION, lambda: calls.commit("x", "view"), "view")
    refused(PRECONDITION, lambda: calls.commit("x", "one"), "committed")
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
    assert f"is in use by process {snapshotter.process.pid}" in told
    other = str(snapshotter.root.parent / "other")
    told = fails("--root", other, "--address", snapshotter.address)
    assert f"{snapshotter.address} is in use by process {snapshotter.process.pid}" in told
    assert snapshotter.calls.list() == []


def test_a_home_of_a_docker_daemon_is_refused(folder: Path) -> None:
    home = Home(str(folder / "home"))
    home.claim("docker", "vfs", 1)
    home.close()
    with pytest.raises(UnsupportedError, match=r"for docker, and this is .* for containerd"):
        Snapshots(VfsDriver(), str(folder / "home"))


def test_a_root_that_holds_the_files_of_others_is_refused_unless_it_is_taken_over(
    folder: Path,
) -> None:
    (folder / "root/snapshots").mkdir(parents=True)
    (folder / "root/metadata.db").touch()
    with pytest.raises(UnsupportedError, match="the root of one of containerd's own snapshotters"):
        Snapshots(VfsDriver(), str(folder / "root"))
    assert sorted(os.listdir(folder / "root")) == ["metadata.db", "snapshots"]
    Snapshots(VfsDriver(), str(folder / "root"), ["adopt=yes"]).close()
    Snapshots(VfsDriver(), str(folder / "root")).close()


def test_a_stop_that_another_thread_takes_is_a_stop(folder: Path) -> None:
    with Snapshotter(folder, "vfs") as one:
        assert one.process
        signal_another_thread(one.process.pid, signal.SIGTERM)
        assert one.process.wait(60) == 0
        assert not os.path.exists(one.address)


def test_the_socket_is_its_groups_and_goes_with_it(folder: Path) -> None:
    served = Snapshotter(folder, "vfs", "--group", "4")
    with served:
        found = os.stat(served.address)
        assert (found.st_mode & 0o7777, found.st_gid) == (0o660, 4)
    assert not os.path.exists(served.address)
    with served:
        assert served.calls.list() == []


def test_a_root_that_was_replaced_is_not_served(folder: Path) -> None:
    root, aside = folder / "snapshots", folder / "aside"
    with Snapshotter(folder, "vfs", root=root) as one:
        chain(one.calls, "kept")
        root.rename(aside)
        Home(str(root)).close()
        for call in (one.calls.list, partial(one.calls.prepare, "new", ""), one.calls.cleanup):
            refused(grpc.StatusCode.UNAVAILABLE, call, f"{root} is not the directory", "restart")
        assert sorted(os.listdir(root)) == [".graphdriver"]
        shutil.rmtree(root)
        aside.rename(root)
        assert one.calls.stat("kept").name == "kept"
