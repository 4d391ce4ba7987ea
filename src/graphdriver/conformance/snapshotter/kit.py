"""What a case works with: the calls, keys that nobody used before, and what is done again and again."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import grpc

from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.expect import Mismatch
from graphdriver.conformance.kit.homes import Homes
from graphdriver.conformance.kit.run import cleared
from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.conformance.snapshotter.mounting import shown
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.errors import UnreachableError

NOT_FOUND: Final = grpc.StatusCode.NOT_FOUND
EXISTS: Final = grpc.StatusCode.ALREADY_EXISTS
INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION: Final = grpc.StatusCode.FAILED_PRECONDITION

Write = Callable[[Path], object]


class SnapshotKit:
    """What one case works with.

    Attributes:
        calls: the snapshotter's.
        scratch: a folder of the case's own, empty.
    """

    def __init__(self, calls: Calls, homes: Homes, scratch: Path) -> None:
        self.calls = calls
        self._homes = homes
        self.scratch = scratch
        self._keys: list[str] = []
        self._places = itertools.count(1)
        self._prefix = f"conform/{secrets.token_hex(4)}"

    def key(self, name: str = "key") -> str:
        """Return a key or a name as containerd makes them; its snapshot is removed after the case."""
        self._keys.append(f"{self._prefix}/{len(self._keys) + 1}/{name}")
        return self._keys[-1]

    def active(self, parent: str = "", write: Write | None = None) -> str:
        """Prepare a snapshot and write to it; return its key."""
        key = self.key("active")
        mounts = self.calls.prepare(key, parent)
        if write:
            with self.shown(mounts, is_new=not parent) as root:
                write(root)
        return key

    def shown(
        self, mounts: Sequence[pb.Mount], *, is_new: bool = False
    ) -> contextlib.AbstractContextManager[Path]:
        """Give what mounts show for the length of a ``with`` block, once they are checked.

        Args:
            mounts: what a call has answered.
            is_new: it is a new snapshot without a parent, and so must be empty.
        """
        place = self.scratch / f"place-{next(self._places)}"
        return shown(mounts, self._homes, place, is_new=is_new)

    def committed(self, parent: str = "", write: Write | None = None) -> str:
        """Prepare, write and commit a snapshot; return its name."""
        name = self.key("committed")
        self.calls.commit(name, self.active(parent, write))
        return name

    @contextlib.contextmanager
    def viewed(self, parent: str) -> Iterator[Path]:
        """Show a committed snapshot for the length of a ``with`` block."""
        key = self.key("view")
        with self.shown(self.calls.view(key, parent)) as root:
            yield root
        self.calls.remove(key)

    def record(self, name: str) -> Mapping[bytes, Facts]:
        """Return all that a committed snapshot shows."""
        with self.viewed(name) as root:
            return record(str(root))

    def clear(self) -> None:
        """Remove what the case has left, children first.

        Raises:
            Mismatch: a snapshot cannot be removed.
        """
        left = self._keys[:]
        self._keys.clear()
        while left:
            kept = [key for key in reversed(left) if not self._goes(key)]
            if len(kept) == len(left):
                raise Mismatch("Remove after the case", f"{kept} cannot be removed", "success")
            left = kept[::-1]

    def _goes(self, key: str) -> bool:
        try:
            self.calls.remove(key)
        except grpc.RpcError as error:
            return _code(error) is NOT_FOUND
        return True


class SnapshotterSubject:
    """A snapshotter that runs already, and that no containerd uses.

    Args:
        address: the absolute path of its unix socket.
        folder: a folder for what the cases need.
        home: the snapshotter's root; nothing that its mounts name elsewhere is mounted or written to.
        calls: how it is called, if not in the way of a proxy.

    Raises:
        UnreachableError: nobody listens there.
    """

    offers: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, address: str, folder: Path, home: str, calls: type[Calls] = Calls) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address)
            except OSError as error:
                raise UnreachableError(
                    f"no snapshotter listens at {address}: {error.strerror or error}",
                    hint="start it first",
                ) from error
        self._folder = folder
        self._homes = Homes(home, folder)
        self._calls = calls(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls.close()

    def kit(self) -> contextlib.AbstractContextManager[SnapshotKit]:
        """Give one case what it works with; what it left is removed at the end."""
        return cleared(self._folder, lambda scratch: SnapshotKit(self._calls, self._homes, scratch))

    def written(self) -> Sequence[str]:
        """Return nothing: it is not ours to read."""
        return ()

    def revive(self) -> str:
        """Tell nothing: it is not ours to start."""
        return ""


def answered(what: str, code: grpc.StatusCode, call: Callable[[], object]) -> None:
    """See that a call is refused, and with which code.

    Raises:
        Mismatch: it succeeded, or was refused with another one.
    """
    try:
        call()
    except grpc.RpcError as error:
        found = _code(error)
        if found is not code:
            details: Any = error
            raise Mismatch(what, f"{found.name}: {details.details()}", code.name) from error
        return
    raise Mismatch(what, "success", code.name)


def soon(what: str, look: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so.

    Raises:
        Mismatch: it is not so after some seconds.
    """
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise Mismatch(what, f"not so after {seconds:.0f} s", "so")
        time.sleep(0.05)


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    told: Any = error  # grpcio's errors are calls, too
    code: grpc.StatusCode = told.code()
    return code
