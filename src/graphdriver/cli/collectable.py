"""Homes whose garbage ``graphdriver gc`` collects: one class for each engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from graphdriver.care.containerd_names import read_names
from graphdriver.care.containerd_records import read_snapshots
from graphdriver.care.docker_records import place_of, read_docker
from graphdriver.care.engine_locks import CONTAINERD, DOCKER, at_rest
from graphdriver.care.garbage import Garbage, layers_in, mounted_in, unnamed, unrecorded
from graphdriver.care.local_driver import taken_up
from graphdriver.care.owners import UnreadError
from graphdriver.cli.known_homes import CONTAINERD_ROOT
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.loading import load_installed, make
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.serving.home import Identity

Remove: TypeAlias = Callable[[str], None]


class Collectable(Protocol):
    """A home, and the records of its engine."""

    def at_rest(self) -> contextlib.AbstractContextManager[None]:
        """Keep the engine from running for the length of a ``with`` block.

        Raises:
            InUseError: it runs.
            GraphDriverError: it is unknown whether it runs.
        """
        ...

    def find(self) -> tuple[int, list[Garbage]]:
        """Return how many layers there are, and those that are garbage, children first.

        Raises:
            GraphDriverError: a record cannot be read, so nothing is known to be garbage.
        """
        ...

    def remover(self) -> contextlib.AbstractContextManager[Remove]:
        """Take up the home for the length of a ``with`` block, which gets a function that removes."""
        ...


class DockerHome:
    """A home in a Docker daemon's data root.

    Args:
        path: its absolute path.
        driver: the name of its driver.
    """

    def __init__(self, path: str, driver: str) -> None:
        self._path = path
        self._driver = driver
        self._data_root, self._name = place_of(path)

    def at_rest(self) -> contextlib.AbstractContextManager[None]:
        """See `Collectable.at_rest`."""
        return at_rest(self._data_root, DOCKER)

    def find(self) -> tuple[int, list[Garbage]]:
        """Return the layers that no record names; see `Collectable.find`."""
        layers = layers_in(self._path, self._driver)
        records = read_docker(self._data_root, self._name)
        return len(layers), unrecorded(layers, records, mounted_in(self._path))

    @contextlib.contextmanager
    def remover(self) -> Iterator[Remove]:
        """See `Collectable.remover`."""
        with taken_up(self._path) as served:
            yield served.remove


class SnapshotterRoot:
    """A snapshotter's root; what is collected are snapshots.

    Args:
        path: its absolute path.
        driver: the name of its driver.
        containerd: the root of the containerd that uses it; by default the directory above, if that
            is one.
    """

    def __init__(self, path: str, driver: str, containerd: str = "") -> None:
        self._path = path
        self._driver = driver
        above = os.path.dirname(path)
        if not containerd:
            containerd = above if os.path.exists(f"{above}/{CONTAINERD[0]}") else CONTAINERD_ROOT
        self._containerd = containerd

    def at_rest(self) -> contextlib.AbstractContextManager[None]:
        """See `Collectable.at_rest`."""
        return at_rest(self._containerd, CONTAINERD)

    def find(self) -> tuple[int, list[Garbage]]:
        """Return the snapshots that containerd does not name; see `Collectable.find`."""
        database = os.path.join(self._containerd, CONTAINERD[0])
        try:
            rows, _ = read_snapshots(self._path)
            names = read_names(database)
        except UnreadError as error:
            raise GraphDriverError(
                f"{error}, so nothing is removed", hint="repair it first"
            ) from error
        if rows and not names & {row.key for row in rows}:
            raise GraphDriverError(
                f"{database} names no snapshot of {self._path}: it is another containerd's",
                hint="name its root with --containerd-root",
            )
        return len(rows), unnamed(rows, names)

    @contextlib.contextmanager
    def remover(self) -> Iterator[Remove]:
        """See `Collectable.remover`."""
        load_installed(self._driver)
        with contextlib.closing(Snapshots(make(self._driver), self._path)) as snapshots:
            yield snapshots.remove


def collectable(path: str, identity: Identity, containerd: str = "") -> Collectable:
    """Return a home as one whose garbage can be collected.

    Args:
        path: its absolute path.
        identity: its record.
        containerd: as for `SnapshotterRoot`.

    Raises:
        UnsupportedError: the records of its engine are not known.
    """
    if identity.engine == "docker":
        return DockerHome(path, identity.driver)
    if identity.engine == "containerd":
        return SnapshotterRoot(path, identity.driver, containerd)
    raise UnsupportedError(f"the records of the engine {identity.engine!r} are not known")
