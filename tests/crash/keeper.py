"""Snapshots in a process of their own, which can be killed: a line of JSON asks, a line answers.

Run as a program, it keeps the snapshots of a root; that is `graphdriver snapshotter` without gRPC,
whose threads take calls in no order that a tracer could count on.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from graphdriver.containerd.shared_layers import SharedSnapshots
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.loading import load
from graphdriver.errors import GraphDriverError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.layers import SharedLayers
from tests.crash.forks import start

TIMEOUT = 60.0


class KilledError(Exception):
    """The process is gone, and has not answered."""


class Keeper:
    """The process; a context manager that ends it.

    Args:
        driver: the driver's name.
        root: where the layers and the snapshots are.
        sync: whether Commit waits until all is on disk.
        log: its log; beside the root if not given.
        first: the words before its command, of a program that starts it.
        shared: the directory of a store whose layers are read in place.
    """

    def __init__(
        self,
        driver: str,
        root: Path,
        *,
        sync: bool = True,
        log: Path | None = None,
        first: Sequence[str] = (),
        shared: Path | None = None,
    ) -> None:
        self.log = log or root.with_suffix(".log")
        words = [__name__, driver, str(root), "layer" if sync else "none"]
        asked, self._asking = _pipe()
        self._answers, answered = _pipe()
        with asked, answered, open(self.log, "ab") as said:
            words += [str(shared)] if shared else []
            self._process = start(words, first, stdin=asked, stdout=answered, stderr=said)

    def __enter__(self) -> Self:
        self.answer()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._asking.close()
        self._answers.close()

    @property
    def pid(self) -> int:
        """Its ID."""
        return self._process.pid

    def threads(self) -> list[int]:
        """Return its threads, that which answers first."""
        return sorted(int(name) for name in os.listdir(f"/proc/{self.pid}/task"))

    def answer(self) -> Any:
        """Return what it says next.

        Raises:
            KilledError: it is gone.
            RuntimeError: it refused; the text is its own.
        """
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            assert self._process.wait(TIMEOUT) == -signal.SIGKILL, self.log.read_text()
            raise KilledError
        refused, said = json.loads(line)
        if refused:
            raise RuntimeError(refused)
        return said

    def ask(self, call: str, *arguments: object) -> Any:
        """Make a call; errors as of `answer`."""
        try:
            self._asking.write(json.dumps([call, arguments]).encode() + b"\n")
        except BrokenPipeError:
            raise KilledError from None
        return self.answer()


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return open(reading, "rb"), open(writing, "wb", buffering=0)


def _keep(driver: str, root: str, sync: str, store: str = "") -> None:
    snapshots = _snapshots(load(driver)(), root, [f"sync={sync}"], store)
    _say("", None)
    for line in sys.stdin:
        call, arguments = json.loads(line)
        try:
            _say("", _answered(snapshots, call, arguments))
        except GraphDriverError as error:
            _say(str(error), None)


def _snapshots(driver: ProtoDriver, root: str, options: list[str], store: str) -> Snapshots:
    if not store:
        return Snapshots(driver, root, options)
    shared = SharedLayers(DirectoryStore(store))
    return SharedSnapshots(driver, root, options, shared=shared, wait=TIMEOUT, in_place=True)


def _answered(snapshots: Snapshots, call: str, arguments: list[Any]) -> object:
    if call in ("prepare", "view", "mounts"):
        (told,) = getattr(snapshots, call)(*arguments)
        return [told.type, told.source, list(told.options)]
    if call == "fill":
        _fill(snapshots, *arguments)
        return None
    if call == "all":
        return [
            [one.key, one.kind.name, one.parent, one.layer, dict(one.labels), one.usage is not None]
            for one in snapshots.find(())
        ]
    done = getattr(snapshots, call)(*arguments)
    return done if call == "cleanup" else None


def _fill(snapshots: Snapshots, key: str, tar: str) -> None:
    """Fill a snapshot that has no parent yet with a tar in base64, as the diff service does."""
    served = snapshots.served
    later = served.takes_parent_later
    assert later
    layer = snapshots.stat(key).layer
    served.expect_fillable(layer, "")
    with served.filling(layer, io.BytesIO(base64.b64decode(tar))) as archive:
        later.apply_before_parent(layer, archive)


def _say(refused: str, said: object) -> None:
    os.write(1, json.dumps([refused, said]).encode() + b"\n")


if __name__ == "__main__":
    _keep(*sys.argv[1:])
