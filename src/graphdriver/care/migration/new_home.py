"""A home that is being filled by a migration: each layer in it is whole and on disk, or made again.

``HOME/.graphdriver/transferred`` has the layers that are whole, one in each line. A line is written
after its layer is on disk. `finish` removes the file when the journal of the migration says that all
layers are there: a migration that was killed before does not do them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from graphdriver.abilities import ability
from graphdriver.care.garbage import unneeded
from graphdriver.care.migration.homes import driver_in
from graphdriver.driver import ReadStream, mounted
from graphdriver.errors import LayerDamagedError
from graphdriver.files.directories import opened
from graphdriver.files.small_files import read_text, write_whole
from graphdriver.homes import ReadsHome
from graphdriver.layer.attributes import is_same_content
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.linux import xattr
from graphdriver.serving.home_contents import OWN
from graphdriver.serving.served_home import ServedHome, read_to_end

TRANSFERRED: Final = f"{OWN}/transferred"

_LIST_LIMIT: Final = 64 << 20
"""The most bytes of the list that are read."""


@dataclass(frozen=True, slots=True)
class Writable:
    """How a container's layer was created: its SELinux label and its own options."""

    mount_label: str = ""
    storage_opt: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a new layer must be.

    Attributes:
        diff_id: the digest of its tar, ``sha256:…``; ``""``: unknown.
        size: the size of its changes in bytes; None: unknown.
        shown: shows its tree in the old home for the length of a ``with`` block; None: the tar says
            all. A driver's Diff says nothing of the root directory itself.
    """

    diff_id: str = ""
    size: int | None = None
    shown: Callable[[], AbstractContextManager[str]] | None = None


class NewHome:
    """A home that is being filled.

    Args:
        served: the home, served by a `Driver`.

    Attributes:
        driver: the driver.
    """

    def __init__(self, served: ServedHome) -> None:
        self.driver = driver_in(served)
        self._served = served
        self._list = os.path.join(served.path, TRANSFERRED)
        self._transferred = self._read()

    def __contains__(self, id: str) -> bool:
        return id in self._transferred

    def _read(self) -> set[str]:
        try:
            text = read_text(self._list, _LIST_LIMIT)
        except (FileNotFoundError, ValueError):  # damaged: all layers are made again
            return set()
        return {*text.rpartition("\n")[0].split("\n")} - {""}

    def keep_only(self, ids: Collection[str]) -> None:
        """Remove all layers but those that are whole and among ``ids``.

        Raises:
            GraphDriverError: one cannot be removed.
            OSError: likewise.
        """
        kept = {id for id in self._transferred.intersection(ids) if self.driver.exists(id)}
        # Before the removals: no line may name a layer of which only half is there.
        self._transferred = kept
        write_whole(self._list, "".join(f"{id}\n" for id in sorted(kept)), 0o600)
        for id in unneeded(self._parents(), kept):
            self._served.remove(id)

    def _parents(self) -> dict[str, set[str]]:
        """Return all layers with their parents, as the journal and the driver's files tell."""
        parents = {one.id: {one.parent or ""} for one in self._served.layers.all()}
        if reads := ability(self.driver, ReadsHome):  # a kill may have kept a line from the journal
            for layer in reads.stored_layers(self._served.path):
                parents.setdefault(layer.id, set()).add(layer.parent or "")
        return parents

    def add(
        self,
        id: str,
        parent: str,
        tar: ReadStream,
        expected: Expected,
        writable: Writable | None = None,
    ) -> None:
        """Make a layer of a tar, and note it as soon as it is on disk.

        Args:
            id: the layer.
            parent: its parent, which is there; or ``""``.
            tar: its tar.
            expected: what it must be.
            writable: for a container's layer.

        Raises:
            LayerDamagedError: the tar is another one.
            GraphDriverError: the layer cannot be made; what is there of it is removed by `keep_only`.
            OSError: likewise.
        """
        digested = _Digested(tar)
        with self._served, self._served.locks.held(id, parent, exclusive=True):
            if self.driver.exists(id):  # left by a kill that nothing else tells of
                self._served.remove(id)
            with self._served.creating(id, parent):
                if writable is None:
                    self.driver.create(id, parent, "", {})
                else:
                    label, options = writable.mount_label, writable.storage_opt
                    self.driver.create_read_write(id, parent, label, options)
            with self._served.filling(id, digested) as archive:
                # As a container writes it: what was applied may be kept where each file is copied up
                # before it is written to (the driver erofs), and beyond the layer's own limit.
                with mounted(self.driver, id) if writable else contextlib.nullcontext():
                    size = self.driver.apply_diff(id, parent, archive)
                read_to_end(archive)
                self._check(id, parent, digested.digest(), expected)
            self._served.layers.applied(id, size)
        self._note(id)

    def _check(self, id: str, parent: str, digest: str, expected: Expected) -> None:
        wrong = ""
        if expected.diff_id and digest != expected.diff_id:
            wrong = f"the digest of its tar is {digest}, and should be {expected.diff_id}"
        elif expected.size is not None:
            size = self.driver.diff_size(id, parent)
            if size != expected.size:
                wrong = f"its changes have {size} bytes, and should have {expected.size}"
        if wrong:
            raise LayerDamagedError.of(id, wrong, self._served.path)
        if expected.shown:
            with expected.shown() as old, mounted(self.driver, id) as new:
                _copy_root(old, new)

    def _note(self, id: str) -> None:
        fd = os.open(self._list, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, f"{id}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        self._transferred.add(id)


def finish(home: str) -> None:
    """Remove what tells which layers are whole, since all are; succeed if that was done before."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(home, TRANSFERRED))


def _copy_root(old: str, new: str) -> None:
    """Give a layer's root directory the metadata that it had in the old home, if that is other."""
    with opened(old) as source, opened(new) as target:
        attributes = xattr.get_all(source)
        wanted, found = os.fstat(source), os.fstat(target)
        owned = (wanted.st_mode, wanted.st_uid, wanted.st_gid)
        if owned != (found.st_mode, found.st_uid, found.st_gid) or not is_same_content(
            attributes, xattr.get_all(target)
        ):
            copy_metadata(target, wanted, attributes)


class _Digested:
    """A tar whose digest is known once it was read."""

    def __init__(self, tar: ReadStream) -> None:
        self._tar = tar
        self._sum = hashlib.sha256()

    def read(self, n: int, /) -> bytes:
        piece = self._tar.read(n)
        self._sum.update(piece)
        return piece

    def digest(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"
