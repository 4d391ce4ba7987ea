"""Layers that were pulled here, put into a shared store in the background.

Only what proves itself is published: the layer's tar, stored as it came, has a diff ID that gives the
chain ID by which containerd committed the snapshot. So containers never are, whatever they are called.

A layer whose tar is containerd's own blob has its index in a file of its own, which is of no use
elsewhere. An image in one file is made of it first, which takes the layer's size on disk until it is
stored.

While the store is away, the layers wait for it, also over a restart
(`graphdriver.containerd.unpublished`). A layer that the store did not take waits for an hour.
"""

from __future__ import annotations

import logging
import os
import queue
import tempfile
import threading
import time
from contextlib import closing
from functools import partial
from typing import Final, NamedTuple

from graphdriver.abilities import OpensLayersBelow, ability
from graphdriver.containerd.unpublished import Unpublished
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.homes import StoresImages
from graphdriver.layer.erofs.record import Record, parse
from graphdriver.layer.erofs.store import NotHeldError, store_layer, stored_tar
from graphdriver.serving.home_contents import OWN
from graphdriver.serving.served_home import ServedHome
from graphdriver.shared.availability import Availability, when_there
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers

QUIET: Final = 2.0
"""How long no layer may have come before one is published, in seconds: pulls go first."""

LONGEST: Final = 60.0
"""How long a layer waits for that at most, in seconds."""

RETRY: Final = 3600.0
"""How long a layer that the store did not take waits, in seconds: somebody has to make room there."""

_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    """A committed layer, the chain ID of the layers below it or ``""``, and that of all of them."""

    layer: str
    below: str
    chain_id: str


class Publisher:
    """Puts layers into a store, one after the other, in a thread of its own, when no pull goes on.

    Args:
        served: the driver and its home.
        shared: the layers in the store.
        availability: whether the store answers.

    Attributes:
        unpublished: the layers that wait, also after a restart. A layer is added before its snapshot is
            committed.
    """

    def __init__(
        self, served: ServedHome, shared: SharedLayers, availability: Availability
    ) -> None:
        self._served = served
        self._shared = shared
        self._availability = availability
        self._stores = ability(type(served.driver), StoresImages)
        self.unpublished = Unpublished(os.path.join(served.home.path, OWN, "unpublished"))
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._failed: list[_Waiting] = []
        self._retry_at = 0.0
        """When the store gets those again, by the monotonic clock."""
        self._is_closed = threading.Event()
        self._last = 0.0
        """When the last layer came, by the monotonic clock."""
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, layer: str, below: str, chain_id: str) -> None:
        """Publish a committed layer when no other one has come for a while.

        Args:
            layer: the layer.
            below: the chain ID of the layers below it, or ``""``.
            chain_id: the chain ID of all of them.
        """
        self._last = time.monotonic()
        self._waiting.put(_Waiting(layer, below, chain_id))

    def close(self) -> None:
        """End without publishing what waits; what is being written is left, and is swept by ``gc``."""
        self._is_closed.set()
        self._waiting.put(None)

    def _run(self) -> None:
        while one := self._next():
            self._await_quiet()
            try:
                when_there(partial(self._ask, one.chain_id), self._is_closed)
                if self._is_closed.is_set():
                    return
                if self._publish(*one):
                    _log.info("the layer %s is in %s", one.chain_id, self._shared.store.address)
            except OSError as error:
                # It is the same with the others: full, or read-only here.
                level = logging.INFO if self._failed else logging.WARNING
                self._failed.append(one)
                self._retry_at = time.monotonic() + RETRY
                _log.log(
                    level,
                    "the layer %s was not published, which is tried again in an hour: %s",
                    one.chain_id,
                    error,
                )
                continue
            except (GraphDriverError, NotHeldError, ValueError) as error:
                _log.warning("the layer %s was not published: %s", one.chain_id, error)
            except Exception:  # of one layer; the next one may go well
                _log.exception("the layer %s was not published", one.chain_id)
            self.unpublished.remove(one.layer)

    def _next(self) -> _Waiting | None:
        """Wait for the next layer, perhaps one that the store did not take; None at the end."""
        try:
            left = max(self._retry_at - time.monotonic(), 0) if self._failed else None
            return self._waiting.get(timeout=left)
        except queue.Empty:
            for one in self._failed:
                self._waiting.put(one)
            self._failed.clear()
            return self._waiting.get()

    def _await_quiet(self) -> None:
        """Wait until no layer has come for a while, or this was closed."""
        latest = time.monotonic() + LONGEST
        while (left := min(self._last + QUIET, latest) - time.monotonic()) > 0:
            if self._is_closed.wait(left):
                return

    def _ask(self, chain_id: str) -> None:
        """Ask the store whether it has a layer: it is away, or there."""
        with self._availability.asking():
            self._shared.link_of(chain_id)

    def _publish(self, layer: str, below: str, chain_id: str) -> bool:
        home = self._served.home.path
        image = self._stores and self._stores.stored_image(home, layer)
        if not image:
            return False
        with closing(image):
            record = parse(image.record)
            link = Link(below, f"sha256:{record.sha256.hex()}")
            if link.chain_id != chain_id or record.uid_maps or record.gid_maps:
                return False
            if image.tar_fd is None:
                return self._shared.put(link, image.fd, record)
            with tempfile.TemporaryFile(dir=home) as file:
                whole = self._in_one_file(layer, record, image.tar_fd, file.fileno())
                return self._shared.put(link, file.fileno(), whole)

    def _in_one_file(self, layer: str, record: Record, tar: int, file: int) -> Record:
        """Make an image in an empty file of a layer's tar; return the record of that image."""
        opens = ability(self._served.driver, OpensLayersBelow)
        if not opens:
            raise UnsupportedError("the driver cannot open the layers below")
        # The lock: nobody removes the layer, nor those below it.
        with (
            self._served.locks.held(layer),
            closing(stored_tar(record, os.dup(tar))) as stream,
        ):
            return store_layer(stream, file, below=lambda: opens.opened_below(layer))
