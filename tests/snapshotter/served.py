"""``graphdriver snapshotter`` as a process, and the calls that containerd makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from graphdriver.snapshotter import _messages_pb2 as pb
from graphdriver.snapshotter.service import SERVICE

TIMEOUT = 60.0


class Calls:
    """The service's calls, over a connection of its own."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(f"unix:{address}")

    def close(self) -> None:
        self._channel.close()

    def prepare(self, key: str, parent: str = "", **labels: str) -> list[pb.Mount]:
        request = pb.PrepareSnapshotRequest(key=key, parent=parent, labels=labels)
        return list(self._call("Prepare", request, pb.PrepareSnapshotResponse).mounts)

    def view(self, key: str, parent: str = "", **labels: str) -> list[pb.Mount]:
        request = pb.ViewSnapshotRequest(key=key, parent=parent, labels=labels)
        return list(self._call("View", request, pb.ViewSnapshotResponse).mounts)

    def mounts(self, key: str) -> list[pb.Mount]:
        return list(self._call("Mounts", pb.MountsRequest(key=key), pb.MountsResponse).mounts)

    def commit(self, name: str, key: str, **labels: str) -> None:
        request = pb.CommitSnapshotRequest(name=name, key=key, labels=labels)
        self._call("Commit", request, pb.CleanupRequest)

    def remove(self, key: str) -> None:
        self._call("Remove", pb.RemoveSnapshotRequest(key=key), pb.CleanupRequest)

    def stat(self, key: str) -> pb.Info:
        found: pb.Info = self._call(
            "Stat", pb.StatSnapshotRequest(key=key), pb.StatSnapshotResponse
        ).info
        return found

    def update(self, name: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> pb.Info:
        request = pb.UpdateSnapshotRequest(
            info=pb.Info(name=name, labels=labels), update_mask=FieldMask(paths=paths)
        )
        found: pb.Info = self._call("Update", request, pb.UpdateSnapshotResponse).info
        return found

    def list(self, *filters: str) -> list[pb.Info]:
        call = self._channel.unary_stream(
            f"/{SERVICE}/List",
            pb.ListSnapshotsRequest.SerializeToString,
            pb.ListSnapshotsResponse.FromString,
        )
        answers = call(pb.ListSnapshotsRequest(filters=filters), timeout=TIMEOUT)
        return [info for answer in answers for info in answer.info]

    def usage(self, key: str) -> pb.UsageResponse:
        found: pb.UsageResponse = self._call("Usage", pb.UsageRequest(key=key), pb.UsageResponse)
        return found

    def cleanup(self) -> None:
        self._call("Cleanup", pb.CleanupRequest(), pb.CleanupRequest)

    def _call(self, name: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{name}", type(request).SerializeToString, answer.FromString
        )
        return call(request, timeout=TIMEOUT, wait_for_ready=True)


class Snapshotter:
    """A snapshotter's process; a context manager that stops it.

    Args:
        folder: holds its socket and its log; the path must be short.
        driver: what is served.
        options: more options of ``graphdriver snapshotter``.
        root: where its layers are; in the folder if not given.
    """

    def __init__(self, folder: Path, driver: str, *options: str, root: Path | None = None) -> None:
        self.driver = driver
        self.address = str(folder / "s.sock")
        self.root = root or folder / "snapshots"
        self.log = folder / "s.log"
        self._command = [sys.executable, "-m", "graphdriver", "snapshotter", driver]
        self._command += ["--address", self.address, "--root", str(self.root), *options]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.calls.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(TIMEOUT)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        at = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + TIMEOUT
        while b"INFO    serving" not in self.log.read_bytes()[at:]:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.calls = Calls(self.address)

    def kill(self) -> None:
        """Kill it with -9."""
        assert self.process
        self.calls.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT)

    def layers(self) -> list[str]:
        """Return the layers' folders in the root."""
        return sorted(name for name in os.listdir(self.root) if name.isdecimal())
