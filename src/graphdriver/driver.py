"""The contract of a storage driver; no I/O happens here.

A **layer** is a directory tree with an ID. It has a **parent** layer, or none, and shows what its
parent shows plus its own changes. An image is a chain of layers that are no longer written to; a
container is one writable layer on top of such a chain. A **driver** keeps layers below a directory of
its own, the **home**.

The life of a layer:

1. `create` makes it, without changes of its own. For an image the daemon then fills it, with
   `apply_diff` (load, pull, commit), or with `get` and by writing into the directory (BuildKit).
2. `get` makes its whole tree visible in a directory (by a mount, or because it is one already); `put`
   ends one `get`. Gets may nest; the last put releases the directory.
3. A layer that is a parent is read-only. The daemon keeps this rule; a driver need not enforce it.
4. `diff` returns its changes against its parent as a tar stream; `changes` lists them.
5. `remove` deletes it. It succeeds for a layer that does not exist, so that it can be repeated.

A `ProtoDriver` has the first half only: ten methods, of which five must be written.
`graphdriver.NaiveDiffDriver` adds the second half by comparing directories. A `Driver` that knows a
faster way writes the second half itself.

Methods are plain blocking functions. The framework calls them from many threads at once, but never
twice at the same time for one ID (while the stream that `diff` returned is read, other calls go on).
`init` is called while no other call runs, and again after a restart of the daemon. Names and the
order of arguments follow Docker's Go package ``graphdriver``. The text of an error that a driver raises
is shown to the daemon's user; errors of `graphdriver.errors` say more than a bare `OSError`.

IDs match `LAYER_ID`: the framework refuses others before a driver sees them. A parent of ``""`` means
"none".
"""

from __future__ import annotations

import abc
import contextlib
import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

LAYER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""The IDs that a layer may have. None of them can be a path; daemons use no other ones."""

DEFAULT_DOCKER_ROOT_DIRECTORY = "/var/lib/docker/graph"
"""Where Docker's Go helper kept layers by default; daemons today always send a home."""


class ChangeKind(enum.IntEnum):
    """The kind of a change; the numbers are those of the protocol."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between a layer and its parent.

    ``path`` begins with ``/``, the layer's root. Bytes that are not UTF-8 are written as Python writes
    them in file names (`os.fsdecode`).
    """

    path: str
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class IDMap:
    """A range of ``size`` ids: ``container_id`` in a container is ``host_id`` on disk, and so on."""

    container_id: int
    host_id: int
    size: int


def host_root(maps: Sequence[IDMap]) -> int:
    """Return the id on disk of a container's root; 0 if ``maps`` do not map it."""
    return next((one.host_id for one in maps if one.container_id == 0 and one.size), 0)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A driver's promises beyond the contract.

    ``reproduces_exact_diffs``: `Driver.diff` returns exactly the bytes that `Driver.apply_diff` read.
    The daemon then calls Diff at save and push, instead of reading the layer's files.
    """

    reproduces_exact_diffs: bool = False


@dataclass(frozen=True, slots=True)
class Needs:
    """The privileges that a driver needs besides those with which layers are read and written.

    ``graphdriver serve`` and ``graphdriver snapshotter`` give up all others
    (docs/operations.md lists what they keep for every driver).

    Attributes:
        capabilities: their names as in capabilities(7): ``CAP_NET_ADMIN``.
        set_uid_programs: whether the driver starts a program that must gain privileges by its
            set-user-ID bit or by file capabilities.
        lasting_programs: whether it starts programs that must go on after its own end: they serve
            mounts that containers use.
    """

    capabilities: AbstractSet[str] = frozenset()
    set_uid_programs: bool = False
    lasting_programs: bool = False


class ReadStream(Protocol):
    """The tar that `Driver.apply_diff` reads."""

    def read(self, n: int, /) -> bytes:
        """Return 1 to ``n`` bytes, or ``b""`` at the end of a *whole* stream.

        Raises:
            BrokenStreamError: the sender broke off; the bytes so far are not a layer.
        """
        ...


class ClosableStream(ReadStream, Protocol):
    """The tar that `Driver.diff` returns."""

    def close(self) -> None:
        """Release what the stream holds; called exactly once, whether it was read to its end or not."""
        ...


class ProtoDriver(abc.ABC):
    """The ten methods of a driver that keeps layers; five of them must be written."""

    driver_name: ClassVar[str] = ""
    """The name that a home is marked with, so that no other driver uses it; empty: the class's name."""

    home_format: ClassVar[int] = 1
    """The version of the layout on disk; a home of another version is refused."""

    needs: ClassVar[Needs | None] = None
    """The privileges of the process that serves it; None: all that it was started with. A subclass does
    not inherit this, so that it keeps what it may need until it declares its own."""

    def init(  # noqa: B027 - to do nothing is the default
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Begin to serve the layers in a home.

        Args:
            home: the absolute path of the driver's own directory, which exists and may hold layers.
                It may hold any character but NUL, colons too.
            options: the daemon's ``--storage-opt`` values, ``key=value`` each.
            uid_maps: user ids in containers to those on disk; empty means that they are the same.
            gid_maps: likewise for groups.

        Raises:
            UnsupportedError: an option is not known, or the driver does not work in this home.
        """

    @abc.abstractmethod
    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a layer that shows what ``parent`` shows. It may be written to through `get`.

        Args:
            id: the new layer.
            parent: its parent, or ``""``.
            mount_label: an SELinux label, or ``""``.
            storage_opt: options of this layer alone, such as ``{"size": "10G"}``.

        Raises:
            LayerExistsError: ``id`` exists.
            LayerNotFoundError: ``parent`` does not exist.
            UnsupportedError: an option is not known.
        """

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a container's writable layer; by default the same as `create`."""
        self.create(id, parent, mount_label, storage_opt)

    @abc.abstractmethod
    def remove(self, id: str) -> None:
        """Delete a layer, mounted or not; succeed if it does not exist.

        Raises:
            InUseError: the layer is needed, for example by a child. The driver has changed nothing of
                it, so the framework lets Diffs that are being read go on; after any other error it
                breaks them off.
        """

    @abc.abstractmethod
    def get(self, id: str, mount_label: str) -> str:
        """Return the absolute path of a directory that shows the layer's whole tree.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """

    @abc.abstractmethod
    def put(self, id: str) -> None:
        """Undo one `get`.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """

    @abc.abstractmethod
    def exists(self, id: str) -> bool:
        """Tell whether a layer exists."""

    def status(self) -> Sequence[tuple[str, str]]:
        """Return the pairs that ``docker info`` shows, in this order."""
        return ()

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return the pairs that ``docker inspect`` shows for a layer.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        return {}

    def cleanup(self) -> None:  # noqa: B027 - to do nothing is the default
        """Release all mounts: the daemon stops, and no container keeps running.

        When this returns, no thread works in the home and no file there is open, so that its
        filesystem can be unmounted. Further calls are possible.
        """


class Driver(ProtoDriver):
    """A driver that also reads and writes layers as tar streams: all fifteen methods."""

    @abc.abstractmethod
    def diff(self, id: str, parent: str) -> ClosableStream:
        """Return the changes of ``id`` against ``parent``, as an uncompressed tar.

        The same layer gives the same bytes every time: BuildKit compares digests.

        Args:
            id: the layer.
            parent: any of its ancestors, or ``""`` for the layer's whole tree.

        Raises:
            LayerNotFoundError: either does not exist.
        """

    @abc.abstractmethod
    def changes(self, id: str, parent: str) -> Iterable[Change]:
        """Return the changes of ``id`` against ``parent`` (as for `diff`), in any order.

        The framework iterates over them once, before another call for the layer, so that a generator
        is allowed.
        """

    @abc.abstractmethod
    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        """Write a layer's tar into the new layer ``id``.

        Args:
            id: a layer that was just created on ``parent``.
            parent: its direct parent, or ``""``.
            archive: an uncompressed tar; a complete stream of no bytes is an empty layer.

        Returns:
            The sum of the sizes in the tar's headers, in bytes.

        Raises:
            BadArchiveError: the tar is damaged or hostile.
            BrokenStreamError: it broke off.
            InUseError: as for `remove`, before anything of the tar was read; the layer is as before.
                After any other error the layer is incomplete: the framework lets no call read or fill
                it, or create a layer on it, until it is removed.
        """

    @abc.abstractmethod
    def diff_size(self, id: str, parent: str) -> int:
        """Return the size of the changes of ``id`` against ``parent`` (as for `diff`), in bytes."""

    def capabilities(self) -> Capabilities:
        """Return the driver's promises beyond the contract; called once after `init`."""
        return Capabilities()


@contextlib.contextmanager
def mounted(driver: ProtoDriver, id: str, mount_label: str = "") -> Iterator[str]:
    """Get a layer for the length of a ``with`` block, and put it at the end.

    Raises:
        LayerNotFoundError: ``id`` does not exist.
    """
    path = driver.get(id, mount_label)
    try:
        yield path
    finally:
        driver.put(id)
