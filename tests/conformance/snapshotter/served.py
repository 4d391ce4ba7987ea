"""A snapshotter in this process, with a fault or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.snapshotter.subject import SocketSubject
from graphdriver.containerd.server import SnapshotterServer
from tests.conformance.snapshotter.faults.fault import Broken


@contextlib.contextmanager
def served(planted: type[Broken]) -> Iterator[SocketSubject]:
    """Serve a snapshotter for the length of a ``with`` block."""
    with scratch_directory("/dev/shm", "gd-") as directory:
        socket, home = f"{directory}/s.sock", f"{directory}/root"
        with (
            SnapshotterServer(planted(home), socket),
            SocketSubject(socket, directory, home) as subject,
        ):
            yield subject
