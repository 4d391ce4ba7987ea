"""Abilities of a driver's *class*: what it can tell of a home that it does not serve, and repair there.

All are optional (`graphdriver.abilities.ability` finds them). The home may be served by another
process, or by none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from graphdriver.abilities import Usage
from graphdriver.driver import ChangeKind


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer as a driver's files describe it, whether or not a process serves the home.

    Attributes:
        id: the layer.
        parent: its parent; ``""``: it has none; None: the files do not tell.
        path: the directory with the layer's own content, without the layers below if the driver keeps
            them apart; ``""`` if it has none.
        usage: the disk usage as it was counted last; None: it was not counted.
        beside: other files and directories that hold content of the layer: an image.
    """

    id: str
    parent: str | None
    path: str
    usage: Usage | None = None
    beside: tuple[str, ...] = ()


class ReadsHome(Protocol):
    """A driver *class* that reads a home without serving it, also beside a process that does."""

    def stored_layers(self, home: str) -> Iterator[StoredLayer]:
        """Yield all layers in a home, damaged ones too, in no order; a class method.

        Nothing is written. A layer that another process makes or removes meanwhile may be missing.

        Args:
            home: an existing directory.

        Raises:
            OSError: the home cannot be read.
        """
        ...


class SizedChange(NamedTuple):
    """One path that differs between a layer and its parent.

    Attributes:
        path: as in `graphdriver.driver.Change`; that of a directory ends with ``/``.
        kind: the kind of the change.
        size: bytes of an added or changed file; 0 for everything else.
    """

    path: str
    kind: ChangeKind
    size: int


class ReadsChanges(Protocol):
    """A driver *class* that finds what a layer changed, without serving its home."""

    def stored_changes(self, home: str, id: str, parent: str) -> Iterator[SizedChange]:
        """Yield the changes of a layer against its parent, in any order; a class method.

        Nothing is written or mounted. A process may serve the home meanwhile: what it is just writing
        may be missing. Directories that were changed themselves may be left out.

        Args:
            home: an existing directory.
            id: the layer.
            parent: its parent, which `ReadsHome.stored_layers` told; ``""`` if it has none.

        Raises:
            GraphDriverError: the layer, or one below it, is damaged.
            OSError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a home that is not as the driver left it.

    Attributes:
        code: a stable name for programs: ``dangling-link``.
        layer: the layer that it is about; ``""``: the whole home.
        text: what is wrong, in one sentence without a full stop.
        repair: what `ChecksHome.mend_home` does about it, in the imperative: ``remove the link``;
            ``""`` if nothing can be done without losing the layer.
        loses: whether content was lost, so that images or containers cannot work.
        path: the file or directory in the home that it is about; ``""``: the layer's own, or none.
    """

    code: str
    layer: str
    text: str
    repair: str = ""
    loses: bool = False
    path: str = ""


UNKNOWN_PARENT = "unknown-parent"
"""The code of a damage: the files of a layer do not tell its parent, without which it is lost."""


class ChecksHome(Protocol):
    """A driver *class* that checks and repairs a home that it does not serve."""

    def check_home(self, home: str) -> Iterator[Damage]:
        """Yield what is wrong in a home; a class method that writes nothing.

        A process may serve the home meanwhile; what it is just making or removing is no damage.

        Args:
            home: an existing directory.

        Raises:
            OSError: the home cannot be read.
        """
        ...

    def mend_home(self, home: str, damage: Damage) -> None:
        """Repair one damage that `check_home` found, as its ``repair`` says; a class method.

        No process serves the home. The repair may be interrupted and made again.

        Raises:
            OSError: it cannot be repaired; the text says why.
        """
        ...


class CountsHeld(Protocol):
    """A driver *class* that can tell which layers of a home are in use."""

    def held_layers(self, home: str) -> Mapping[str, int]:
        """Return the layers that were got more often than put since the machine started, and how often.

        A class method. Another process may serve the home.

        Raises:
            OSError: that cannot be read.
        """
        ...


class ChecksContent(Protocol):
    """A driver *class* that recorded what the content of its layers must be."""

    def wrong_content(self, home: str, id: str) -> str | None:
        """Compare a layer's content with what was recorded when it was applied; a class method.

        Args:
            home: an existing directory, which a process may serve.
            id: a layer in it.

        Returns:
            What is wrong, in one sentence without a full stop; ``""`` if nothing is; None if nothing
            was recorded of this layer.

        Raises:
            LayerDamagedError: what was recorded is lost.
            OSError: the layer cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A layer as an EROFS image: its tar and its index.

    Attributes:
        fd: the file with the index, open for reading.
        record: the text of the image's record, as `graphdriver.layer.erofs.record.parse` takes it.
        tar_fd: the file with the tar, open for reading, if it is another one.
    """

    fd: int
    record: str
    tar_fd: int | None = None

    def close(self) -> None:
        """Close the files."""
        os.close(self.fd)
        if self.tar_fd is not None:
            os.close(self.tar_fd)


class StoresImages(Protocol):
    """A driver *class* that keeps layers as EROFS images."""

    def stored_image(self, home: str, id: str) -> StoredImage | None:
        """Open the image of a layer; a class method.

        Returns:
            The image, to be closed by the caller; None if the layer is kept in another way.

        Raises:
            LayerDamagedError: the image or its record was lost.
            OSError: they cannot be read now.
        """
        ...


class RestoresParent(Protocol):
    """A driver *class* that can note a layer's parent again, if its files do not tell it any more."""

    def restore_parent(self, home: str, id: str, parent: str) -> None:
        """Note the parent of a layer, which the engine's records tell; a class method.

        No process serves the home. Called for a damage of the code `UNKNOWN_PARENT`.

        Raises:
            LayerDamagedError: what it needs of the parent is lost.
            OSError: it cannot be written.
        """
        ...


class DockersOwn(Protocol):
    """What a driver knows of Docker's own driver of the same name: its layers become ours, and back.

    A *unit* is a directory that is the same in both layouts: a layer with all its files, or its tree.
    All methods work on a home that nobody uses, wherever it lies, and may be interrupted and called
    again. ``is_dockers`` tells whose layout it has, or gets.
    """

    def layers(self, home: str) -> Iterator[StoredLayer]:
        """Yield the layers in a home of Docker's own driver.

        Raises:
            OSError: it cannot be read.
        """
        ...

    def unit(self, home: str, id: str, *, is_dockers: bool) -> str:
        """Return the path of a layer's unit, which need not exist."""
        ...

    def make_place(self, home: str, id: str, parent: str, group: int, *, is_dockers: bool) -> None:
        """Make all of a layer but its unit, and the home.

        Args:
            home: the home.
            id: the layer.
            parent: its parent, or ``""``.
            group: the group of directories: that of the (remapped) root.
            is_dockers: whose layout.

        Raises:
            OSError: it cannot be made.
        """
        ...

    def copy(self, unit: str, target: str, *, is_written: bool) -> None:
        """Copy a unit, with as much data in common as is safe.

        Args:
            unit: the original.
            target: the copy, which does not exist.
            is_written: whether anything may be written to the layer later, on either side.

        Raises:
            OSError: it cannot be copied.
        """
        ...

    def complete(self, home: str, *, is_dockers: bool) -> None:
        """Give a home with all its units what the driver needs besides, and remove what it does not.

        Raises:
            OSError: it cannot be written to.
        """
        ...

    def why_unusable(self, unit: str) -> str:
        """Return why Docker's own driver could not use a layer, in one sentence; ``""`` if it can."""
        ...

    def remove(self, directory: str, name: str) -> None:
        """Remove a home, or anything in one; succeed if it does not exist.

        Raises:
            OSError: it cannot be removed.
        """
        ...


class KnowsDockersOwn(Protocol):
    """A driver *class* whose layers can become those of Docker's own driver of its name, and back."""

    def dockers_own(self) -> DockersOwn:
        """Return what is known of that driver; a class method."""
        ...
