"""Layers that were pulled here, put into a shared store in the background.

Only what proves itself is published: the layer's tar, stored as it came, has a diff ID that gives the
chain ID by which containerd committed the snapshot. So containers never are, whatever they are called.
"""

from __future__ import annotations

import logging
import os
import queue
import threading

from graphdriver.driver import ability
from graphdriver.errors import GraphDriverError
from graphdriver.homes import StoresImages
from graphdriver.layer.erofs.record import parse
from graphdriver.serving.served_home import ServedHome
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers

_log = logging.getLogger(__name__)


class Publisher:
    """Puts layers into a store, one after the other, in a thread of its own.

    Args:
        served: the driver and its home.
        shared: the layers in the store.
    """

    def __init__(self, served: ServedHome, shared: SharedLayers) -> None:
        self._served = served
        self._shared = shared
        self._stores = ability(type(served.driver), StoresImages)
        self._waiting: queue.SimpleQueue[tuple[str, str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, layer: str, below: str, chain_id: str) -> None:
        """Publish a committed layer soon.

        Args:
            layer: the layer.
            below: the chain ID of the layers below it, or ``""``.
            chain_id: the chain ID of all of them.
        """
        self._waiting.put((layer, below, chain_id))

    def close(self) -> None:
        """End without publishing what waits; what is being written is left, and is swept by ``gc``."""
        self._waiting.put(None)

    def _run(self) -> None:
        while one := self._waiting.get():
            layer, below, chain_id = one
            try:
                if self._publish(layer, below, chain_id):
                    _log.info("the layer %s is in %s", chain_id, self._shared.store.address)
            except (GraphDriverError, OSError, ValueError) as error:
                _log.warning("the layer %s was not published: %s", chain_id, error)

    def _publish(self, layer: str, below: str, chain_id: str) -> bool:
        image = self._stores and self._stores.stored_image(self._served.home.path, layer)
        if not image:
            return False
        try:
            record = parse(image.record)
            link = Link(below, f"sha256:{record.sha256.hex()}")
            if link.chain_id != chain_id or record.uid_maps or record.gid_maps:
                return False
            return self._shared.put(link, image.fd, record)
        finally:
            os.close(image.fd)
