"""A snapshotter in this process, with a fault or none."""

from __future__ import annotations

import contextlib
import unittest.mock
from collections.abc import Iterator

from graphdriver.abilities import TakesParentLater, ability
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.snapshotter.subject import SocketSubject
from graphdriver.containerd import server
from tests.conformance.snapshotter.faults.fault import Broken


@contextlib.contextmanager
def served(planted: type[Broken]) -> Iterator[SocketSubject]:
    """Serve a snapshotter for the length of a ``with`` block."""
    with scratch_directory("/dev/shm", "gd-") as directory:
        socket, home, content = f"{directory}/s.sock", f"{directory}/root", f"{directory}/c.sock"
        with (
            unittest.mock.patch.object(server, "Differ", planted.differ),
            server.SnapshotterServer(planted(home), socket, containerd=content),
            SocketSubject(
                socket,
                directory,
                home,
                content=content,
                rebase=ability(planted.good, TakesParentLater) is not None,
            ) as subject,
        ):
            yield subject
