"""Our snapshotter passes the kit: on the default driver all cases, on others what depends on them."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator

import pytest

from graphdriver.abilities import TakesParentLater, ability
from graphdriver.conformance.kit.process import Process
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.pytest_plugin import SnapshotCheck
from graphdriver.conformance.snapshotter.subject import SocketSubject
from graphdriver.drivers.loading import load
from tests.support.filesystems import loop

pytestmark = pytest.mark.root

BY_THE_DRIVER = (
    "mounts,content,diff,metadata/usage*,metadata/cleanup*,metadata/callers*,refusals/removed*"
)
"""What the driver does; names, labels, times, filters and codes are one code before all drivers."""


@pytest.fixture(scope="module")
def snapshotter(request: pytest.FixtureRequest) -> Iterator[SocketSubject]:
    with contextlib.ExitStack() as held:
        place = directory = held.enter_context(scratch_directory("/dev/shm", "gd-"))
        if request.param == "btrfs":
            place = held.enter_context(loop("btrfs", directory))
        root, content = str(place / "root"), str(directory / "c.sock")
        words = [sys.executable, "-m", "graphdriver", "snapshotter", request.param, "--root", root]
        process = Process(
            shlex.join([*words, "--address", "{socket}", "--containerd-socket", content]), directory
        )
        held.callback(process.end, signal.SIGTERM)
        rebase = ability(load(request.param), TakesParentLater) is not None
        yield held.enter_context(
            SocketSubject(process.socket, directory, root, content=content, rebase=rebase)
        )


@pytest.mark.parametrize("snapshotter", ["overlay2"], indirect=True)
@pytest.mark.conformance(strict=True)
def test_our_snapshotter_conforms(snapshot_case: SnapshotCheck, snapshotter: SocketSubject) -> None:
    snapshot_case(snapshotter)


@pytest.mark.parametrize("snapshotter", ["vfs", "erofs", "btrfs", "fuse-overlayfs"], indirect=True)
@pytest.mark.conformance(only=BY_THE_DRIVER, strict=True)
def test_it_does_on_every_driver(snapshot_case: SnapshotCheck, snapshotter: SocketSubject) -> None:
    snapshot_case(snapshotter)


@pytest.mark.parametrize("snapshotter", ["erofs", "fuse-overlayfs"], indirect=True)
@pytest.mark.conformance(only="rebase", strict=True)
def test_layers_get_their_parents_later(
    snapshot_case: SnapshotCheck, snapshotter: SocketSubject
) -> None:
    snapshot_case(snapshotter)
