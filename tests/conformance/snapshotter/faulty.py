"""Serve a snapshotter with one fault: ``python -m tests.conformance.snapshotter.faulty NAME SOCKET``.

``none`` is the snapshotter that faults are planted in.
"""

from __future__ import annotations

import signal
import sys

from graphdriver.containerd.server import SnapshotterServer
from tests.conformance.snapshotter.faults import FAULTS
from tests.conformance.snapshotter.faults.fault import Broken


def main(name: str, path: str) -> None:
    kinds = {fault.name: fault.planted for fault in FAULTS} | {"none": Broken}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with SnapshotterServer(kinds[name](f"{path}.root"), path):
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(*sys.argv[1:])
