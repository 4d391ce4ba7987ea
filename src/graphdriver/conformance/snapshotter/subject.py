"""What is examined: a snapshotter behind a socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.homes import Homes
from graphdriver.conformance.kit.run import cleared
from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.errors import UnreachableError
from graphdriver.linux.unix_sockets import refuse_other


class SocketSubject:
    """A snapshotter that runs already, and that no containerd uses.

    Args:
        address: the absolute path of its unix socket.
        directory: a directory for what the cases need.
        home: the snapshotter's root; nothing that its mounts name elsewhere is mounted or written to.
        calls: how it is called, if not in the way of a proxy.

    Raises:
        UnreachableError: nobody listens there.
        UnsupportedError: something else than a socket is there.
    """

    offers: ClassVar[frozenset[Need]] = frozenset()

    def __init__(
        self, address: str, directory: Path, home: str, calls: type[Calls] = Calls
    ) -> None:
        refuse_other(address)
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address)
            except OSError as error:
                raise UnreachableError(
                    f"no snapshotter listens at {address}: {error.strerror or error}",
                    hint="start it first",
                ) from error
        self._directory = directory
        self._homes = Homes(home, directory)
        self._calls = calls(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls.close()

    def kit(self) -> contextlib.AbstractContextManager[Kit]:
        """Give one case what it works with; what it left is removed at the end."""
        return cleared(self._directory, lambda scratch: Kit(self._calls, self._homes, scratch))

    def written(self) -> Sequence[str]:
        """Return nothing: it is not ours to read."""
        return ()

    def revive(self) -> str:
        """Tell nothing: it is not ours to start."""
        return ""
