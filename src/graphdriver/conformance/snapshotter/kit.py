"""The kit of a case: the calls, new keys, and the steps that many cases share."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import grpc

from graphdriver.conformance.kit.expect import Mismatch
from graphdriver.conformance.kit.homes import Homes
from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.conformance.snapshotter.calls import NOT_FOUND, Calls, DiffCalls, code_of
from graphdriver.conformance.snapshotter.content import Content
from graphdriver.conformance.snapshotter.mounting import shown
from graphdriver.containerd import _messages_pb2 as pb

Write = Callable[[Path], object]


class Kit:
    """The kit of one case.

    Attributes:
        calls: the snapshotter's calls.
        scratch: an empty directory for the case.
    """

    patience: ClassVar[float] = 10.0
    """Time limit for a snapshotter's work in the background, in seconds."""

    def __init__(
        self,
        calls: Calls,
        homes: Homes,
        scratch: Path,
        service: tuple[Content, DiffCalls] | None = None,
    ) -> None:
        self.calls = calls
        self._service = service
        self._homes = homes
        self.scratch = scratch
        self._keys: list[str] = []
        self._places = itertools.count(1)
        self._prefix = f"conform/{secrets.token_hex(4)}"

    @property
    def content(self) -> Content:
        """The content store that the diff service asks; only for cases that need it."""
        assert self._service is not None
        return self._service[0]

    @property
    def diffs(self) -> DiffCalls:
        """The calls of the diff service; only for cases that need it."""
        assert self._service is not None
        return self._service[1]

    def key(self, name: str = "key") -> str:
        """Return a new key or name in containerd's form; its snapshot is removed after the case."""
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
        """Check mounts, and give their root for the length of a ``with`` block.

        Args:
            mounts: the mounts in a response.
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
        """Return the attributes of all that a committed snapshot shows."""
        with self.viewed(name) as root:
            return record(str(root))

    def clear(self) -> None:
        """Remove the snapshots of the case, children first.

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
            return code_of(error) is NOT_FOUND
        return True
