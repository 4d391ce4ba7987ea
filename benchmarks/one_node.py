"""A node that does nothing but get the layers of an image, for `benchmarks/shared.py`.

    PYTHONPATH=. python benchmarks/one_node.py HOME STORE|REGISTRY/NAME

The links of the layers, or their digests in the registry, come as JSON on the first line of the
standard input; at the second line it begins. It prints how many seconds it took to keep all layers by
the driver erofs, without a sync.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import closing

from graphdriver.blobs.digests import Digested
from graphdriver.blobs.formats import decompressed
from graphdriver.driver import Driver, ReadStream
from graphdriver.drivers.loading import make
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.opening import open_store


def take_from_store(driver: Driver, address: str, links: Sequence[Sequence[str]]) -> None:
    """Keep the layers of a chain, which come from a store."""
    with closing(open_store(address)) as store:
        shared, below = SharedLayers(store), ""
        for number, (parent, diff_id) in enumerate(links):
            found = shared.find(Link(parent, diff_id))
            assert found
            with closing(shared.tar(found)) as tar:
                below = keep(driver, str(number), below, tar)


def take_from_registry(driver: Driver, base: str, digests: Sequence[str]) -> None:
    """Keep the layers of an image, which come from a registry."""
    below = ""
    for number, digest in enumerate(digests):
        with urllib.request.urlopen(f"{base}/blobs/{digest}") as blob:
            tar = decompressed(Digested(blob, digest), "gzip")
            below = keep(driver, str(number), below, Digested(tar))


def keep(driver: Driver, id: str, below: str, tar: ReadStream) -> str:
    """Make a layer of a tar; return its name."""
    driver.create(id, below, "", {})
    driver.apply_diff(id, below, tar)
    while tar.read(1 << 20):  # its digest is checked at its end
        pass
    return id


def main() -> None:
    """Wait, get the layers, and print how long it took."""
    home, address = sys.argv[1:]
    layers = json.loads(sys.stdin.readline())
    os.mkdir(home, 0o700)
    driver = make("erofs")
    assert isinstance(driver, Driver)
    driver.init(home, [], [], [])
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    if address.startswith("http://"):
        take_from_registry(driver, address, layers)
    else:
        take_from_store(driver, address, layers)
    print(time.perf_counter() - started, flush=True)
    driver.cleanup()


if __name__ == "__main__":
    main()
