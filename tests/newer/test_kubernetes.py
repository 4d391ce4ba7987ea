"""Kubernetes without kubelet: containerd's CRI plugin on our snapshotter and diff service."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.containerd.questions import ask
from tests.support.containerd_images import busybox
from tests.support.kubernetes import IDS, Node
from tests.support.leftovers import mounts_below
from tests.support.registry import Breaking, push, registry
from tests.support.snapshotter import Snapshotter, on_driver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

PODS = 20
WRITTEN = 3 << 20
BIG = 24 << 20
COUNTS = "n=0; while true; do n=$((n + 1)); echo $n; echo $n >> /counted; sleep 0.1; done"
DATA = [
    tars.tar(tars.directory(b"data"), tars.file(b"data/kept", b"kept"), tars.file(b"data/old")),
    tars.tar(tars.whiteout(b"data/.wh.old"), tars.file(b"data/new", b"new", uid=1000, gid=1000)),
]


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """A registry, with an image for sandboxes."""
    with registry(folder) as address:
        push(address, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
        yield address


@pytest.fixture
def web(address: str) -> str:
    """An image there, of three layers."""
    return push(address, "web", [busybox(), *DATA])


@pytest.fixture
def node(folder: Path, snapshotter: Snapshotter, address: str) -> Iterator[Node]:
    with Node(folder, snapshotter, f"{address}/sandbox:1").running() as node:
        yield node


@pytest.fixture(params=["overlay2", "erofs"])
def fast(request: pytest.FixtureRequest, folder: Path) -> Iterator[Snapshotter]:
    """A snapshotter, over each of the drivers for Kubernetes."""
    with on_driver(request.param, folder) as one:
        yield one


@pytest.fixture
def fast_node(folder: Path, fast: Snapshotter, address: str) -> Iterator[Node]:
    with Node(folder, fast, f"{address}/sandbox:1").running() as node:
        yield node


def applied(snapshotter: Snapshotter) -> int:
    """Return how many layers our diff service applied."""
    status = ask(snapshotter.address, "status")
    assert isinstance(status, dict)
    count: int = status["calls"]["Apply"]["count"]
    return count


def expect_nothing_left(node: Node, snapshotter: Snapshotter, *images: str) -> None:
    """Remove images, and expect that containerd collects all their layers."""
    for image in (*images, node.sandbox):
        node.remove_image(image)
    wait_until(lambda: not snapshotter.layers())
    wait_until(lambda: mounts_below(snapshotter.root) == [])


def test_a_pod_runs_and_leaves_nothing(node: Node, snapshotter: Snapshotter, web: str) -> None:
    id = node.pull(web)
    assert node.has(web)
    assert applied(snapshotter) == 3
    pod = node.pod()
    container = pod.run(id, "/bin/sh", "-c", "cat /data/*; echo; sleep 1000000")
    container.expect_prints("keptnew")
    container.inside("/bin/busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3")
    wait_until(lambda: container.written_bytes >= WRITTEN)
    wait_until(lambda: node.filesystem().used_bytes.value >= WRITTEN)
    assert node.filesystem().fs_id.mountpoint == str(snapshotter.root)
    container.remove()
    pod.remove()
    expect_nothing_left(node, snapshotter, web)
    assert not node.has(web)


@pytest.mark.long
@pytest.mark.parametrize("is_killed", [False, True])
def test_pods_do_not_notice_that_the_snapshotter_is_gone_and_comes_back(
    fast_node: Node, fast: Snapshotter, web: str, is_killed: bool
) -> None:
    id = fast_node.pull(web)
    pods = [fast_node.pod() for _ in range(PODS)]
    containers = [pod.run(id, "/bin/sh", "-c", COUNTS) for pod in pods]

    def expect_all_go_on() -> None:
        before = [len(one.printed) for one in containers]
        wait_until(
            lambda: all(len(one.printed) > n for one, n in zip(containers, before, strict=True))
        )
        assert all(pod.is_ready for pod in pods)
        for one in containers:
            assert one.is_running
            assert one.inside("/bin/cat", "/data/kept") == "kept"
            assert one.inside("/bin/cat", "/counted")

    expect_all_go_on()
    if is_killed:
        fast.kill()
    else:
        fast.__exit__()
    expect_all_go_on()
    fast.start()
    fast_node.containerd.sees_the_snapshotter()
    expect_all_go_on()
    new = pods[0].run(id, "/bin/sh", "-c", "cat /data/new; echo; sleep 1000000")
    new.expect_prints("new")
    for pod in pods:
        pod.remove()
    expect_nothing_left(fast_node, fast, web)


@pytest.mark.long
def test_images_that_share_layers_are_pulled_at_once(
    fast_node: Node, fast: Snapshotter, address: str
) -> None:
    shared = [busybox(), tars.tar(tars.file(b"shared", os.urandom(BIG)))]
    images = [
        push(address, f"image{n}", [*shared, tars.tar(tars.file(b"own", b"%d" % n))])
        for n in range(3)
    ]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        ids = [*threads.map(fast_node.pull, images)]
    pod = fast_node.pod()
    for n, id in enumerate(ids):
        container = pod.run(id, "/bin/sh", "-c", "cat /own; echo; sleep 1000000")
        container.expect_prints(str(n))
        container.remove()
    pod.remove()
    expect_nothing_left(fast_node, fast, *images)


@pytest.mark.long
def test_a_pull_that_is_broken_off_leaves_nothing_and_can_be_repeated(
    fast_node: Node, fast: Snapshotter, address: str
) -> None:
    big = tars.tar(tars.file(b"big", os.urandom(BIG)))
    push(address, "big", [busybox(), big, *DATA])
    with contextlib.closing(Breaking(address, BIG // 2)) as breaking:
        image = f"{breaking.address}/big:1"
        with pytest.raises(grpc.RpcError):
            fast_node.pull(image)
        assert breaking.has_broken_off
        assert not fast_node.has(image)
        wait_until(lambda: not fast.layers())
        breaking.mend()
        id = fast_node.pull(image)
    pod = fast_node.pod()
    container = pod.run(id, "/bin/sh", "-c", "cat /data/*; echo; sleep 1000000")
    container.expect_prints("keptnew")
    assert container.inside("/bin/busybox", "stat", "-c", "%s", "/big") == f"{BIG}\n"
    pod.remove()
    expect_nothing_left(fast_node, fast, image)


@pytest.mark.long
def test_a_runtime_class_has_the_snapshotter_alone(
    folder: Path, fast: Snapshotter, address: str, web: str
) -> None:
    show = ("/bin/sh", "-c", "cat /data/*; echo; sleep 1000000")
    with Node(folder, fast, f"{address}/sandbox:1", is_class=True).running() as node:
        id = node.pull(web)
        other = node.pod()
        other.run(id, *show).expect_prints("keptnew")
        assert not fast.layers()
        pod = node.pod("ours")
        pod.run(id, *show).expect_prints("keptnew")
        assert len(fast.layers()) > 4
        for one in (pod, other):
            one.remove()
        expect_nothing_left(node, fast, web)


@pytest.mark.long
def test_an_image_is_a_volume(fast_node: Node, fast: Snapshotter, address: str, web: str) -> None:
    if fast_node.version < (2, 1):
        pytest.skip("containerd has image volumes from version 2.1 on")
    volume = push(address, "volume", DATA)
    id, data = fast_node.pull(web), fast_node.pull(volume)
    pod = fast_node.pod()
    read = "cat /volume/data/*; ! echo changed > /volume/data/new; echo; sleep 1000000"
    container = pod.run(id, "/bin/sh", "-c", read, volumes=[(data, "/volume")])
    wait_until(lambda: "keptnew" in container.printed)
    assert "Read-only file system" in "".join(container.printed)
    container.remove()
    pod.remove()
    expect_nothing_left(fast_node, fast, web, volume)


@pytest.mark.long
@pytest.mark.parametrize("remaps", ["", 'capabilities = ["remap-ids"]'])
def test_a_pod_has_a_user_namespace_and_a_network_of_its_own(
    folder: Path, fast: Snapshotter, address: str, web: str, remaps: str
) -> None:
    """With the capability the image is mounted with other owners, without it containerd copies it.

    containerd cannot mount images of erofs with other owners.
    """
    with Node(folder, fast, f"{address}/sandbox:1", remaps).running() as node:
        if node.version < (2, 1):
            pytest.skip("containerd 1.7 takes no remapped mounts from a snapshotter")
        if remaps and fast.driver == "erofs":
            with pytest.raises(grpc.RpcError, match="is a mount of its own"):
                node.pod(is_isolated=True)
            return
        id = node.pull(web)
        pod = node.pod(is_isolated=True)
        show = "cat /proc/self/uid_map; ls -ln /data; echo mine > /mine; sleep 1000000"
        container = pod.run(id, "/bin/sh", "-c", show)
        wait_until(lambda: len(container.printed) >= 4)
        assert container.printed[0].split() == ["0", "655360", str(IDS)]
        owners = {line.split()[-1]: line.split()[2:4] for line in container.printed[2:]}
        assert owners == {"kept": ["0", "0"], "new": ["1000", "1000"]}
        assert container.inside("/bin/ls", "-n", "/mine").split()[2:4] == ["0", "0"]
        assert pod.address.startswith("10.217.0.")
        container.remove()
        pod.remove()
        expect_nothing_left(node, fast, web)
