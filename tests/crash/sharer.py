"""A program that does one thing with a shared store, to be killed before one of its calls.

    python -m tests.crash.sharer publish STORE FOLDER
    python -m tests.crash.sharer fetch STORE ROOT DRIVER CHAIN-ID...
    python -m tests.crash.sharer commit STORE ROOT TAR CHAIN-ID
    python -m tests.crash.sharer verify STORE
    python -m tests.crash.sharer gc STORE IMAGE

``publish`` puts the layers of a folder, which has the files of another store, into a store. ``fetch``
makes snapshots of a store's layers. ``commit`` commits one of a tar where layers are published.
``verify`` removes damaged layers, and ``gc`` those that nobody has
used for a day; a node takes a lease for an image after it has looked for leases. The directory called
`BEGUN` is made when the imports are over.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from unittest import mock

from graphdriver.cli.command import OK
from graphdriver.cli.main import main
from graphdriver.containerd.filling import Filler
from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerExistsError
from graphdriver.shared import leases
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import CHAINS, digest_of
from graphdriver.shared.layers import IMAGE, SharedLayers
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import Stored

BEGUN: Final = "begun"


def publish(store: str, folder: str) -> None:
    """Put the layers of a folder into a store, with their images open as a driver gives them out."""
    source = SharedLayers(DirectoryStore(folder))
    target = SharedLayers(open_store(store, may_be_new=True))
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


def commit(store: str, root: str, tar: str, chain_id: str) -> None:
    """Make a snapshot of a tar, as a pull from a registry does, on a node that publishes."""
    shared = SharedLayers(DirectoryStore(store))
    with contextlib.closing(
        SharedSnapshots(make("erofs"), root, shared=shared, publishes=True)
    ) as node:
        node.prepare("default/1/extract", "", {})
        layer = node.stat("default/1/extract").layer
        with open(tar, "rb") as stream, node.served.locks.held(layer, exclusive=True):
            Filler(node.served).fill(layer, "", stream)
        os.mkdir(Path(root).with_name(BEGUN))
        node.commit(f"default/2/{chain_id}", "default/1/extract", {})


def verify(store: str) -> None:
    """Remove what is damaged."""
    share("verify", "--remove", store)


def gc(store: str, image: str) -> None:
    """Remove what is unused; a node takes a lease for one image at the last moment."""
    unused = SharedLayers.unused

    def and_then_leased(shared: SharedLayers, seconds: float) -> Iterator[Stored]:
        found = list(unused(shared, seconds))
        assert shared.store.in_place
        leases.take(shared.store.in_place, image, "late")
        return iter(found)

    with mock.patch.object(SharedLayers, "unused", and_then_leased):
        share("gc", "--unused-for", "1d", "--remove", store)


def share(*words: str) -> None:
    """Run ``graphdriver share``."""
    os.mkdir(Path(words[-1]).with_name(BEGUN))
    assert main(["share", *words]) == OK


ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "publish": publish,
    "fetch": fetch,
    "commit": commit,
    "verify": verify,
    "gc": gc,
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](*sys.argv[2:])
