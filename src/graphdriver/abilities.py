"""The optional abilities of drivers; no I/O happens here.

A driver has an ability if it has the ability's methods; `ability` finds it, also behind a wrapper. The
framework asks for each of them, and does without it. Those of drivers' classes which read and repair a
home are in `graphdriver.homes`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast, runtime_checkable

from graphdriver.driver import ProtoDriver, ReadStream


class CountsGets(Protocol):
    """A driver that counts gets, because the last put unmounts."""

    def daemon_began(self) -> None:
        """Count each layer that is mounted now as got once.

        Called after `graphdriver.ProtoDriver.init`, when a daemon sends its first Init. A killed daemon
        sends no Put for its Gets; the next one gets and puts the layer of each container that still
        runs. Without this count, that put would unmount the container.
        """
        ...


class FindsLeftovers(Protocol):
    """A driver that knows what a killed daemon left behind.

    Its methods are called when another daemon sends Init, after `CountsGets.daemon_began`, if the
    previous daemon is known to be gone: on a unix socket, if its process has ended.
    """

    def release_leftovers(self) -> None:
        """Unmount each layer that is another layer's parent, unless the mount is in use (EBUSY).

        A layer without a child stays mounted: a container may still run on it.
        """
        ...

    def is_leftover(self, id: str) -> bool:
        """Tell whether ``id`` has no child and no mount.

        Called for a layer that is incomplete because its `graphdriver.Driver.apply_diff` did not end.
        If so, the layer is removed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that shows a layer, as mount(8) takes it; an option may be ``ro`` or ``rw``."""

    type: str
    source: str
    options: tuple[str, ...]


class NamesMounts(Protocol):
    """A driver that can name a layer's mounts without making them."""

    def mounts(self, id: str, *, read_only: bool) -> Sequence[Mount]:
        """Return the mounts that show a layer, in the order in which they are made, and make none.

        Args:
            id: the layer.
            read_only: nothing will be written to it. Always so for a layer that is a parent.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        ...


class KeepsMounts(Protocol):
    """A driver with named mounts (`NamesMounts`) that work only while it keeps something mounted.

    Users are snapshots. After a start, `keep_mounts` is called again for each of them, before any call
    of `NamesMounts.mounts`.
    """

    def keep_mounts(self, id: str, user: str) -> None:
        """Keep mounted what `NamesMounts.mounts` of a layer needs, until `release_mounts`.

        Nothing need be mounted before `NamesMounts.mounts` is called.

        Args:
            id: the layer.
            user: the user; it uses only this layer.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        ...

    def release_mounts(self, user: str) -> None:
        """Note that a user is gone; do nothing if it is unknown."""
        ...


class WorksInBackground(Protocol):
    """A driver that goes on after its calls: a thread unmounts later what is not used any more."""

    def end_background_work(self) -> None:
        """Do now what would be done later, and end the threads that would do it.

        Called before a home is released, which another process may serve then, and also if
        `graphdriver.ProtoDriver.init` failed. An ``init`` may follow.
        """
        ...


class TakesParentLater(Protocol):
    """A driver that can fill a layer before its parent is known, and give it the parent afterwards.

    containerd 2.2 and later unpacks the layers of an image at the same time so. A layer that was filled
    so is *unsettled*: what depends on the layers below is open until `settle`.
    """

    def apply_before_parent(self, id: str, archive: ReadStream) -> int:
        """Write a layer's tar into the new layer ``id``.

        As `graphdriver.Driver.apply_diff`, but for its parent. A hard link to a file that is not in the
        tar is no error here.

        Args:
            id: a layer that was just created without a parent.
            archive: as for `graphdriver.Driver.apply_diff`; likewise what is returned and raised.
        """
        ...

    def awaits_parent(self, id: str) -> bool:
        """Tell whether a layer is unsettled, or empty and without a parent.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        ...

    def settle(self, id: str, parent: str) -> None:
        """Give a layer its parent.

        Then it is as `graphdriver.Driver.apply_diff` would have made it on that. Called once, for a
        layer that awaits a parent.

        Args:
            id: the layer.
            parent: its parent, which will not be written to; ``""``: it has none.

        Raises:
            LayerNotFoundError: ``parent`` does not exist.
            BadArchiveError: the target of a hard link is not below.
        """
        ...


class OpensLayersBelow(Protocol):
    """A driver that keeps what each layer changed in a directory of its own, and can open these."""

    def opened_below(self, id: str) -> contextlib.AbstractContextManager[Sequence[int]]:
        """Open the directories of the layers below ``id`` for a ``with`` block, the nearest first."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The disk usage of a layer: ``size`` in bytes, in whole blocks, and ``inodes``."""

    size: int
    inodes: int


class CountsUsage(Protocol):
    """A driver that knows the disk usage of a layer without a walk through its tree."""

    def usage(self, id: str) -> Usage:
        """Return the disk usage of a layer, without the layers below and what is not on disk yet.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        ...


class TellsUntouched(Protocol):
    """A driver that creates a layer as a copy of its parent.

    `graphdriver.NaiveDiffDriver` then skips files that have not changed since the copy.
    """

    def untouched_since(self, id: str, parent: str) -> int | None:
        """Return when ``id`` was a finished copy of ``parent``, in nanoseconds since 1970.

        The time is by the clock of the filesystem: the change time (ctime) of a file written after the
        copy. None: unknown, or ``id`` is not a copy of ``parent``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Touched:
    """The places where a tree and its snapshot can differ.

    A snapshot keeps inode numbers: a file or directory with the same number in both trees is the same,
    unless it was touched in one of them.

    Attributes:
        upper_device: ``st_dev`` of the upper tree, as stat(2) gives it; other devices are compared
            as if nothing were known.
        lower_device: ``st_dev`` of the lower tree.
        inodes: the numbers of the inodes that were touched in either tree: content, attributes or,
            of a directory, names in it.
        names: for the number of each directory, the names in it that lead to a touched inode.
    """

    upper_device: int
    lower_device: int
    inodes: AbstractSet[int]
    names: Mapping[int, AbstractSet[bytes]]

    def were_one(self, above: os.stat_result, below: os.stat_result) -> bool:
        """Tell whether an inode of the upper tree is the snapshot of one of the lower tree."""
        return (
            above.st_ino == below.st_ino
            and above.st_dev == self.upper_device
            and below.st_dev == self.lower_device
        )

    def names_in(self, directory: int) -> Sequence[bytes] | None:
        """Return the names that can differ in a directory, given its inode number; None: any."""
        return None if directory in self.inodes else sorted(self.names.get(directory, ()))


class TellsTouched(Protocol):
    """A driver on a filesystem that records what was touched since a snapshot was made.

    `graphdriver.NaiveDiffDriver` then compares only that.
    """

    def touched_since(self, upper_fd: int, lower_fd: int) -> Touched | None:
        """Return where a layer and its parent can differ; None: anywhere.

        Args:
            upper_fd: the root directory of the layer.
            lower_fd: the root directory of the layer that it is compared with.
        """
        ...


@dataclass(frozen=True, slots=True)
class Suitability:
    """The suitability of a driver for a directory: a higher ``rank`` is better; and the reason."""

    rank: int
    reason: str


class ProbesHome(Protocol):
    """A driver *class* that knows where it works; without this it is used only if the user names it."""

    def probe(self, home: str) -> Suitability:
        """Tell how well the driver would work in ``home``, an existing directory; a class method.

        Raises:
            UnsupportedError: it would not work there; the text says why.
        """
        ...


class ChecksOptions(Protocol):
    """A driver *class* that can refuse options before it has a home."""

    def check(self, options: Sequence[str]) -> None:
        """Check what is known without a home: options, a program, the kernel; a class method.

        Raises:
            UnsupportedError: the driver works in no home with these; the text says why.
        """
        ...


@runtime_checkable
class WrapsDriver(Protocol):
    """A driver that wraps another one, ``proto``, and has all its abilities."""

    proto: ProtoDriver


A = TypeVar("A")


# Callable, since mypy rejects a protocol as an argument of type type[A].
def ability(driver: object, wanted: Callable[..., A]) -> A | None:
    """Return the object that has an ability of a driver: the driver itself, or one that it wraps.

    The outermost driver that has an attribute of such a name decides. If that attribute is not a method
    (None, a number, a class), the driver does not have the ability.

    Args:
        driver: a driver; a driver's class for `ProbesHome` and `ChecksOptions`.
        wanted: one of the protocols above.
    """
    methods = [name for name in vars(wanted) if not name.startswith("_")]
    found = driver
    while not any(hasattr(found, name) for name in methods):
        if not isinstance(found, WrapsDriver):
            return None
        found = found.proto
    for name in methods:
        method = getattr(found, name, None)
        if not callable(method) or isinstance(method, type):
            return None
    return cast(A, found)
