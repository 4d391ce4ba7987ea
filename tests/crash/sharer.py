"""A program that does one thing with a shared store, to be killed before one of its calls.

    python -m tests.crash.sharer publish STORE FOLDER
    python -m tests.crash.sharer fetch STORE ROOT DRIVER CHAIN-ID...

``publish`` puts the layers of a folder, which has the files of another store, into a store. ``fetch``
makes snapshots of a store's layers. The directory called `BEGUN` is made when the imports are over.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerExistsError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import CHAINS, digest_of
from graphdriver.shared.layers import IMAGE, SharedLayers

BEGUN: Final = "begun"


def publish(store: str, folder: str) -> None:
    """Put the layers of a folder into a store, with their images open as a driver gives them out."""
    source, target = SharedLayers(DirectoryStore(folder)), SharedLayers(DirectoryStore(store))
    keys = sorted(one.key for one in source.store.stored() if one.key.startswith(CHAINS))
    os.mkdir(Path(store).with_name(BEGUN))
    for key in keys:
        link = source.link_of(digest_of(key))
        found = source.find(link) if link else None
        assert found
        with open(Path(folder, f"{found.key}{IMAGE}"), "rb") as image:
            target.put(found.link, image.fileno(), found.record)


def fetch(store: str, root: str, driver: str, *chain_ids: str) -> None:
    """Make a snapshot of each layer, upon the one before it, as the Prepares of a pull do."""
    shared = SharedLayers(DirectoryStore(store))
    with contextlib.closing(SharedSnapshots(make(driver), root, shared=shared, wait=60)) as node:
        os.mkdir(Path(root).with_name(BEGUN))
        below = ""
        for number, chain_id in enumerate(chain_ids):
            with contextlib.suppress(LayerExistsError):
                node.prepare(f"default/{number}/extract", below, {REF: chain_id})
                raise AssertionError("the layer was not taken from the store")
            below = f"default/{number}/extract (shared)"


if __name__ == "__main__":
    (publish if sys.argv[1] == "publish" else fetch)(*sys.argv[2:])
