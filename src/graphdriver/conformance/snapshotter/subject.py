"""The subject of a run: a snapshotter behind a socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.homes import Homes
from graphdriver.conformance.kit.run import cleared
from graphdriver.conformance.snapshotter.calls import Calls, DiffCalls
from graphdriver.conformance.snapshotter.content import Content
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.errors import UnreachableError
from graphdriver.linux.unix_sockets import refuse_other


class SocketSubject:
    """A snapshotter that runs already, and that no containerd uses.

    Args:
        address: the absolute path of its unix socket.
        directory: a directory for the files of the cases.
        home: the snapshotter's root; directories elsewhere are neither mounted nor written to.
        calls: the class of its calls, if it is not a proxy snapshotter.
        content: the socket where its diff service looks for containerd's content store, and where the
            kit serves one; ``""``: its diff service is not checked.
        rebase: whether it can give a snapshot its parent with Commit.

    Raises:
        UnreachableError: no process listens there.
        UnsupportedError: something else than a socket is there.
    """

    def __init__(
        self,
        address: str,
        directory: Path,
        home: str,
        calls: type[Calls] = Calls,
        content: str = "",
        *,
        rebase: bool = False,
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
        self._held = contextlib.ExitStack()
        self._service: tuple[Content, DiffCalls] | None = None
        if content:
            refuse_other(content)
            diffs = self._held.enter_context(contextlib.closing(DiffCalls(address)))
            self._service = (self._held.enter_context(Content(content)), diffs)
        offered = ((Need.CONTENT, bool(content)), (Need.REBASE, rebase))
        self.offers = frozenset(need for need, is_there in offered if is_there)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()
        self._calls.close()

    def kit(self) -> contextlib.AbstractContextManager[Kit]:
        """Give one case its kit for a ``with`` block; remove its leftovers at the end."""
        return cleared(
            self._directory, lambda scratch: Kit(self._calls, self._homes, scratch, self._service)
        )

    def written(self) -> Sequence[str]:
        """Return nothing: its log is not known."""
        return ()

    def revive(self) -> str:
        """Do nothing: it was started elsewhere."""
        return ""
