"""Two nodes of a cluster: what the first one pulled and published, the second one does not pull."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.layers import SharedLayers
from tests.support.containerd_images import busybox, ten_layers
from tests.support.kubernetes import node_on
from tests.support.long import times
from tests.support.network import Host, network
from tests.support.registry import push, registry
from tests.support.shared_store import links_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

FILES = times(gate=1_500, long=90_000)


def asked(folder: Path, host: Host) -> list[str]:
    """Return what a machine asked the registry for."""
    log = (folder / "registry.log").read_text()
    return re.findall(rf'{re.escape(host.address)}:?\S* .*"GET (/v2/\S+)', log)


@pytest.mark.parametrize("driver", [pytest.param("overlay2", marks=pytest.mark.long), "erofs"])
def test_the_second_node_fetches_no_byte_of_a_layer_from_the_registry(
    driver: str, folder: Path
) -> None:
    layers = ten_layers(FILES)
    with network(2) as site, registry(folder, site.address) as address:
        folder.chmod(0o711)
        sandbox = push(address, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
        web = push(address, "web", layers)
        (folder / "store" / "chains").mkdir(parents=True)
        store = ["--shared", str(folder / "store")]
        first, second = site.hosts

        with node_on(first, folder / "a", "erofs", sandbox, *store, "--publish") as (one, _):
            one.pull(web)
            expect_published(folder / "store", layers)
        assert len(blobs(asked(folder, first), "web")) == len(layers) + 1

        with node_on(second, folder / "b", driver, sandbox, *store) as (one, snapshotter):
            id = one.pull(web)
            assert blobs(asked(folder, second), "web") == {id}  # the configuration
            assert second.received < 100_000
            pod = one.pod()
            container = pod.run(id, "/bin/sh", "-c", "cat /srv/again; ls /many; sleep 1000000")
            kept = {f"{number}" for number in range(FILES // 500 + 1)} - {"2"} | {"2b"}
            container.expect_prints("another" + min(kept), *sorted(kept)[1:])
            pod.remove()
            for image in (web, sandbox):
                one.remove_image(image)
            wait_until(lambda: not snapshotter.layers())


def expect_published(store: Path, layers: Sequence[bytes]) -> None:
    """Wait until all layers of an image are in a store."""
    with contextlib.closing(DirectoryStore(str(store))) as directory:
        shared = SharedLayers(directory)
        for link in links_of(layers):
            wait_until(lambda: shared.is_there(link))  # noqa: B023


def blobs(asked: Sequence[str], image: str) -> set[str]:
    """Return the digests of an image's blobs among what was asked for."""
    begin = f"/v2/{image}/blobs/"
    return {one.removeprefix(begin) for one in asked if one.startswith(begin)}
