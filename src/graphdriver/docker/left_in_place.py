"""Tars that were applied here and are in a shared store, too: the home's copies are given up for those.

A daemon always sends a layer's tar, so a store spares no transfer. It spares the space: in the
background the tar in the store is read to its end, and if it is the same, the layer's is left there
(`graphdriver.in_place`). While the store is away, the layers wait for it; those of a process that ends
meanwhile keep their tars in the home.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import closing
from functools import partial
from typing import Final

from graphdriver.abilities import ability
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.homes import ReadsHome, StoresImages
from graphdriver.in_place import ReadsInPlace
from graphdriver.layer.erofs.record import Record, parse
from graphdriver.serving.home_contents import OWN
from graphdriver.serving.served_home import ServedHome, read_to_end
from graphdriver.shared.availability import Availability, when_there
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.in_place import InPlace
from graphdriver.shared.keys import Link, chain_id
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.store import NotStoredError

_log = logging.getLogger(__name__)

_WRONG: Final = (
    "the tar of layer %s, which is read in place, is wrong: %s. Nothing more is mounted with it. Remove"
    " the images and containers upon it, and load them again"
)


class LeftInPlace:
    """Leaves tars in a store, one after the other, in a thread of its own.

    Args:
        served: the driver and its home.
        store: the path of the store's directory.

    Raises:
        UnsupportedError: the driver cannot read layers in place, or the store is not a directory.
    """

    def __init__(self, served: ServedHome, store: str) -> None:
        reads = ability(served.driver, ReadsInPlace)
        stores = ability(type(served.driver), StoresImages)
        reads_home = ability(type(served.driver), ReadsHome)
        if not (reads and stores and reads_home):
            raise UnsupportedError(
                f"read layers in place: the driver {served.driver_name} cannot do that",
                hint="use the driver erofs, or leave out --in-place",
            )
        self._served = served
        directory = DirectoryStore(store)
        self._store = store
        self._shared = SharedLayers(directory)
        self._availability = Availability(directory)
        self._availability.ask_once()
        self._reads, self._stores, self._reads_home = reads, stores, reads_home
        self._in_place = InPlace(
            reads,
            directory,
            self._own_directory,
            lambda layer, wrong: _log.error(_WRONG, layer, wrong),
        )
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._is_closed = threading.Event()
        threading.Thread(target=self._run, name="left in place", daemon=True).start()
        try:
            self._in_place.start()
        except BaseException:  # no thread can be started
            self.close()
            raise

    def applied(self, id: str) -> None:
        """Leave the tar of a layer in the store soon, if the store has it."""
        self._waiting.put(id)

    def removed(self, id: str) -> None:
        """Note that a layer was removed."""
        self._in_place.removed(id)

    def close(self) -> None:
        """End, without the layers that wait: their tars stay in the home."""
        self._is_closed.set()
        self._waiting.put("")
        self._in_place.close()

    def _own_directory(self) -> str | None:
        home = self._served.initialised_home
        return os.path.join(home.path, OWN) if home else None

    def _run(self) -> None:
        while id := self._waiting.get():
            try:
                # The log has it if the store is away.
                if when_there(partial(self._leave, id), self._is_closed):
                    _log.info("the tar of layer %s is left in %s", id, self._store)
            except (GraphDriverError, NotStoredError, OSError, ValueError) as error:
                _log.warning("the tar of layer %s stays in the home: %s", id, error)
            except Exception:  # of one layer; the next one may go well
                _log.exception("the tar of layer %s stays in the home", id)

    def _leave(self, id: str) -> bool:
        """Leave the tar of a layer in the store; return whether it is left.

        Raises:
            AwayError: the store is away.
        """
        record = self._record(id)
        if record is None:
            return False
        diff_id = _digest(record)
        link = Link(self._chain_below(id), diff_id)
        with self._availability.asking():
            found = self._shared.find(link)
        if found is None:
            return False
        with self._in_place.kept(found):
            image = self._in_place.image(found)
            # Without a lock: it takes as long as a transfer.
            with closing(self._shared.tar(found)) as tar:
                read_to_end(tar)
            with self._served, self._served.locks.held(id, exclusive=True):
                self._served.expect_finished(id)
                self._reads.leave_in_place(id, image)
        self._in_place.prove_soon()  # it notes the layer
        return True

    def _record(self, id: str) -> Record | None:
        """Return the record of a layer's image; None if the layer is kept in another way."""
        home = self._served.initialised_home
        image = home and self._stores.stored_image(home.path, id)
        if not image:
            return None
        with closing(image):
            return None if image.tar_fd is not None else parse(image.record)

    def _chain_below(self, id: str) -> str:
        """Return the chain ID of the layers below a layer; ``""``: there are none, or it is unknown."""
        parents = {one.id: one.parent for one in self._reads_home.stored_layers(self._served.path)}
        records = {one.id: parse(one.image.record) for one in self._reads.tars_in_place()}
        below: list[str] = []
        while id := parents.get(id) or "":
            record = records.get(id) or self._record(id)
            if record is None or len(below) > len(parents):
                return ""
            below.append(_digest(record))
        chain = ""
        for diff_id in reversed(below):
            chain = chain_id(chain, diff_id)
        return chain


def _digest(record: Record) -> str:
    return f"sha256:{record.sha256.hex()}"
