"""The kit of a case: a driver, new IDs, and the steps that many cases share."""

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
"""Largest Diff that the kit holds, in bytes; no case creates half of that."""
_DIFF_IN = 120.0
"""Time limit for a whole Diff, in seconds."""


class Subject:
    """A driver or plugin under test; `graphdriver.conformance.plugin.subject` has the three kinds.

    Args:
        directory: a directory for the files of the cases.
        home: where the driver keeps its layers.
        homes: the accepted directories, if they were determined before the start.
    """

    offers: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, directory: Path, home: str, homes: Homes | None = None) -> None:
        self.home = os.path.realpath(home)
        self.homes = homes or Homes(self.home, directory)
        self._directory = directory

    def kit(self) -> AbstractContextManager[Kit]:
        """Give one case its kit for a ``with`` block; remove its leftovers at the end."""
        return cleared(self._directory, lambda scratch: Kit(self, scratch))

    @property
    def driver(self) -> Driver:
        """The plugin, or the driver itself, after an Init of `home`."""
        raise NotImplementedError

    def another(
        self, *, maps: Sequence[IDMap] = (), options: Sequence[str] = (), home: str = ""
    ) -> AbstractContextManager[Driver]:
        """Give a second driver after an Init of another home, by default a new one (`Need.HOMES`)."""
        raise _lacking(Need.HOMES)

    def wire(self) -> Wire:
        """Open a connection to the plugin (`Need.SOCKET`)."""
        raise _lacking(Need.SOCKET)

    def another_daemon(self) -> AbstractContextManager[Wire]:
        """Give a connection that another process opened (`Need.SOCKET`)."""
        raise _lacking(Need.SOCKET)

    def pid(self) -> int:
        """Return the process behind the socket; 0 if it cannot be determined (`Need.SOCKET`)."""
        raise _lacking(Need.SOCKET)

    def kill(self) -> None:
        """End the plugin with SIGKILL (`Need.PROCESS`)."""
        raise _lacking(Need.PROCESS)

    def stop(self, patience: float) -> bool:
        """End the plugin with SIGTERM; return whether it ended within ``patience`` seconds."""
        raise _lacking(Need.PROCESS)

    def start(self) -> None:
        """Start the plugin again after `kill` or `stop`, without an Init."""
        raise _lacking(Need.PROCESS)

    def unused(self) -> AbstractContextManager[Wire]:
        """Give a connection to a second plugin, without an Init (`Need.PROCESS`)."""
        raise _lacking(Need.PROCESS)

    def written(self) -> Sequence[str]:
        """Return the plugin's last lines since the last `kit`."""
        return ()

    def revive(self) -> str:
        """Start a plugin that has died again, on the same home; return how it died, or ""."""
        return ""


def _lacking(need: Need) -> UnsupportedError:
    return UnsupportedError(f"this case needs {need.value} and does not say so")


class Kit:
    """The kit of one case.

    Attributes:
        subject: the driver or plugin under test.
        driver: its driver.
        scratch: an empty directory for the case.
    """

    patience: ClassVar[float] = 10.0
    """Time limit for a plugin's end, and for its work in the background, in seconds."""

    def __init__(self, subject: Subject, scratch: Path) -> None:
        self.subject = subject
        self.scratch = scratch
        self._taken: list[str] = []

    @property
    def driver(self) -> Driver:
        """The driver under test."""
        return self.subject.driver

    def id(self) -> str:
        """Return a new ID in a daemon's form; its layer is removed after the case."""
        self._taken.append(secrets.token_hex(32))
        return self._taken[-1]

    def clear(self) -> None:
        """Remove the layers of the case, the last one first.

        Raises:
            Mismatch: a layer still exists after its Remove.
        """
        while self._taken:
            id = self._taken.pop()
            self.driver.remove(id)
            expect("Exists of a layer after its Remove", self.driver.exists(id), False)

    # Steps that many cases share. ``driver`` may be another one than the subject's.

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
        """Yield a diff piece by piece.

        Args:
            id: the layer.
            parent: the layer that it is compared with.
            driver: another driver than the subject's.
            longest: the largest size in bytes, if it is more than that of other cases.

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
        """Check a directory that Get returned, and give it for the length of a ``with`` block.

        Leave the block before Put: the mount is in use until then. See `Homes.opened`.
        """
        what = "Dir, the response to Get"
        return self.subject.homes.opened(what, named, is_new=is_new, is_read=is_read)

    def names(self, named: object) -> list[str]:
        """Return the names in a directory that Get returned."""
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
        """Return the attributes of everything that a layer shows."""
        with self.shown(id, driver, is_read=True) as root:
            return record(str(root))
