"""The disk usage of snapshots: the driver knows it, or a walk through the layer counts it.

Commit does not wait for a walk: a thread counts committed snapshots one after the other, and the next
start continues with those that are not counted yet.
"""

from __future__ import annotations

import logging
import os
import queue
import threading

from graphdriver import returned
from graphdriver.abilities import Usage
from graphdriver.containerd.metadata import Metadata
from graphdriver.driver import mounted
from graphdriver.layer.tree.inodes import disk_usage
from graphdriver.serving.call_log import described
from graphdriver.serving.served_home import ServedHome

_log = logging.getLogger(__name__)


class UsageCounter:
    """A counter of committed snapshots, in a thread; the results are kept in the database.

    Args:
        served: the driver and the root.
        metadata: the snapshots; those that are not counted yet are counted now.
    """

    def __init__(self, served: ServedHome, metadata: Metadata) -> None:
        self._served = served
        self._metadata = metadata
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = False
        for one in metadata.uncounted():
            self._keys.put(one.key)
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def count_later(self, key: str) -> None:
        """Queue a committed snapshot for the thread, given its key."""
        self._keys.put(key)

    def count(self, layer: str) -> Usage:
        """Return the disk usage of one layer; the caller holds its lock."""
        if self._served.counts_usage:
            return returned.usage(self._served.counts_usage.usage(layer))
        with mounted(self._served.driver, layer) as path:
            fd = os.open(returned.directory(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return disk_usage(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        """End the thread; snapshots that are not counted yet are counted after the next start."""
        self._closing = True
        self._keys.put("")
        self._thread.join()

    def _run(self) -> None:
        while (key := self._keys.get()) and not self._closing:
            try:
                one = self._metadata.stat(key)
                with self._served.locks.held(one.layer):
                    usage = self.count(one.layer)
                    self._served.layers.counted(one.layer, usage)
                    # Last: whoever sees this record finds nothing of the work still to come.
                    self._metadata.count(one, usage)
            except (Exception, SystemExit) as error:
                if self._metadata.exists(key):  # otherwise it was removed meanwhile
                    _log.warning(
                        "the snapshot %s cannot be counted: %s",
                        key,
                        described(error),
                        extra={"graphdriver": {"snapshot": key}},
                    )
