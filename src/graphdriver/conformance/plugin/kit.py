"""What a case works with: a driver, IDs that nobody used before, and what is done again and again."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.kit.homes import Homes
from graphdriver.conformance.kit.run import cleared
from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.conformance.plugin.wire import Wire
from graphdriver.driver import Driver, IDMap, mounted
from graphdriver.errors import UnsupportedError

_PIECE = 100_000
_LONGEST_DIFF = 256 << 20
"""Bytes of a Diff that the kit holds; no case makes a layer whose Diff is half as long."""
_DIFF_IN = 120.0
"""Seconds that a whole Diff may take."""


class Subject:
    """What is examined; `graphdriver.conformance.plugin.subject` has the three kinds.

    Args:
        directory: a directory for what the cases need.
        home: where the driver keeps its layers.
        homes: where its layers may be, if that was known before it was started.
    """

    offers: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, directory: Path, home: str, homes: Homes | None = None) -> None:
        self.home = os.path.realpath(home)
        self.homes = homes or Homes(self.home, directory)
        self._directory = directory

    def kit(self) -> AbstractContextManager[Kit]:
        """Give one case what it works with; what it left is removed at the end."""
        return cleared(self._directory, lambda scratch: Kit(self, scratch))

    @property
    def driver(self) -> Driver:
        """The plugin, or the driver itself; it has taken up `home`."""
        raise NotImplementedError

    def another(
        self, *, maps: Sequence[IDMap] = (), options: Sequence[str] = (), home: str = ""
    ) -> AbstractContextManager[Driver]:
        """Give another one that has taken up a home of its own (`Need.HOMES`), by default a new one."""
        raise _lacking(Need.HOMES)

    def wire(self) -> Wire:
        """Make a connection of one's own to the plugin (`Need.SOCKET`)."""
        raise _lacking(Need.SOCKET)

    def another_daemon(self) -> AbstractContextManager[Wire]:
        """Give a connection that another process has made (`Need.SOCKET`)."""
        raise _lacking(Need.SOCKET)

    def pid(self) -> int:
        """Return the process that answers at the socket (`Need.SOCKET`); 0 if it cannot be known."""
        raise _lacking(Need.SOCKET)

    def kill(self) -> None:
        """End the plugin with SIGKILL (`Need.PROCESS`)."""
        raise _lacking(Need.PROCESS)

    def stop(self, patience: float) -> bool:
        """End the plugin with SIGTERM; tell whether it took less than so many seconds."""
        raise _lacking(Need.PROCESS)

    def start(self) -> None:
        """Start the plugin again after `kill` or `stop`; nobody says Init to it."""
        raise _lacking(Need.PROCESS)

    def unused(self) -> AbstractContextManager[Wire]:
        """Give a connection to another plugin, to which nobody has said Init (`Need.PROCESS`)."""
        raise _lacking(Need.PROCESS)

    def written(self) -> Sequence[str]:
        """Return the last lines that the plugin has written since the last `kit`."""
        return ()

    def revive(self) -> str:
        """Start a plugin that has died anew, on the same home; tell how it died, or ""."""
        return ""


def _lacking(need: Need) -> UnsupportedError:
    return UnsupportedError(f"this case needs {need.value} and does not say so")


class Kit:
    """What one case works with.

    Attributes:
        subject: what is examined.
        driver: its driver.
        scratch: a directory of the case's own, empty.
    """

    patience: ClassVar[float] = 10.0
    """Seconds that one may take to end, and for what it does in the background."""

    def __init__(self, subject: Subject, scratch: Path) -> None:
        self.subject = subject
        self.scratch = scratch
        self._taken: list[str] = []

    @property
    def driver(self) -> Driver:
        """The driver of what is examined."""
        return self.subject.driver

    def id(self) -> str:
        """Return an ID as daemons make them; its layer, if there is one, is removed after the case."""
        self._taken.append(secrets.token_hex(32))
        return self._taken[-1]

    def clear(self) -> None:
        """Remove the layers that the case has left, the last one first.

        Raises:
            Mismatch: one is still there after its Remove.
        """
        while self._taken:
            id = self._taken.pop()
            self.driver.remove(id)
            expect("Exists of a layer after its Remove", self.driver.exists(id), False)

    # What is done again and again. ``driver`` may be another one than the subject's.

    def layer(
        self,
        parent: str = "",
        fill: Callable[[Path], object] | None = None,
        driver: Driver | None = None,
    ) -> str:
        """Create a layer and write into its directory; return its ID."""
        driver = driver or self.driver
        id = self.id()
        driver.create(id, parent, "", {})
        if fill:
            with mounted(driver, id) as named, self.opened(named, is_new=not parent) as root:
                fill(root)
        return id

    def applied(self, data: bytes, parent: str = "", driver: Driver | None = None) -> str:
        """Create a layer and apply a tar to it; return its ID."""
        driver = driver or self.driver
        id = self.id()
        driver.create(id, parent, "", {})
        driver.apply_diff(id, parent, io.BytesIO(data))
        return id

    def diff(self, id: str, parent: str = "", driver: Driver | None = None) -> bytes:
        """Return a whole diff.

        Raises:
            Mismatch: it does not end, or not in time.
        """
        return b"".join(self.pieces(id, parent, driver))

    def pieces(
        self, id: str, parent: str = "", driver: Driver | None = None, longest: int = 0
    ) -> Iterator[bytes]:
        """Yield a diff as it comes.

        Args:
            id: the layer.
            parent: what it is compared with.
            driver: another one than the subject's.
            longest: how many bytes it may have, if that is more than other cases' have.

        Raises:
            Mismatch: as for `diff`.
        """
        left, deadline = longest or _LONGEST_DIFF, time.monotonic() + _DIFF_IN
        with contextlib.closing((driver or self.driver).diff(id, parent)) as stream:
            while piece := stream.read(_PIECE):
                yield piece
                left -= len(piece)
                if left < 0:
                    saw = f"over {longest or _LONGEST_DIFF} bytes"
                    raise Mismatch("a Diff", saw, "the layer, and its end")
                if time.monotonic() > deadline:
                    raise Mismatch(
                        "a Diff", f"no end in {_DIFF_IN:.0f} s", "the layer, and its end"
                    )

    def opened(
        self, named: object, *, is_new: bool = False, is_read: bool = False
    ) -> AbstractContextManager[Path]:
        """Give a directory that Get has named for the length of a ``with`` block, once it is checked.

        To be left before the layer is put: what it shows is in use for as long. See `Homes.opened`.
        """
        what = "Dir, the answer to Get"
        return self.subject.homes.opened(what, named, is_new=is_new, is_read=is_read)

    def names(self, named: object) -> list[str]:
        """Return the names in a directory that Get has named."""
        with self.opened(named, is_read=True) as root:
            return sorted(os.listdir(root))

    @contextlib.contextmanager
    def shown(
        self, id: str, driver: Driver | None = None, *, is_read: bool = False
    ) -> Iterator[Path]:
        """Get a layer for the length of a ``with`` block."""
        with (
            mounted(driver or self.driver, id) as named,
            self.opened(named, is_read=is_read) as root,
        ):
            yield root

    def record(self, id: str, driver: Driver | None = None) -> dict[bytes, Facts]:
        """Return all that a layer shows."""
        with self.shown(id, driver, is_read=True) as root:
            return record(str(root))
