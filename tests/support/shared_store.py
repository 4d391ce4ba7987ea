"""A shared store with the layers of an image in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from graphdriver.images.archive import ImageArchive
from graphdriver.images.pushing import Pusher
from graphdriver.shared.keys import Link, chained_key, layer_key
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.opening import open_store
from tests.support.containerd_images import write_image


def links_of(layers: Sequence[bytes]) -> list[Link]:
    """Return the chain IDs and diff IDs of an image's layers."""
    links: list[Link] = []
    for layer in layers:
        diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        links.append(Link(links[-1].chain_id if links else "", diff_id))
    return links


def image_of(shared: SharedLayers, link: Link) -> Path:
    """Return the file with a layer's image in a store that is a directory."""
    for key in (layer_key(link.diff_id), chained_key(link.chain_id)):
        path = Path(shared.store.address, f"{key}.erofs")
        if path.exists():
            return path
    raise AssertionError(f"the layer {link.chain_id} is not in the store")


def store_with(folder: Path, layers: Sequence[bytes], address: str = "") -> SharedLayers:
    """Return a store that has the layers of an image.

    Args:
        folder: the image is made there, and the store if it has no address.
        layers: tars.
        address: the store's; a directory of its own otherwise.
    """
    place = folder / "store"
    place.mkdir(exist_ok=True)
    shared = SharedLayers(open_store(address or str(place), may_be_new=True))
    write_image(folder / "image.tar", "docker.io/library/ten:1", layers)
    with (
        Pusher(shared, str(folder / "work")) as pusher,
        ImageArchive(str(folder / "image.tar")) as archive,
    ):
        for image in archive.images():
            list(pusher.push(image))
    return shared
