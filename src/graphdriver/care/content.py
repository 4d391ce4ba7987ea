"""The content of layers, compared with what was recorded when they were applied (``fsck --deep``).

A driver that recorded something itself compares with that (`graphdriver.homes.ChecksContent`). For
others there is what a Docker daemon has recorded of each tar (`graphdriver.care.tar_split`). A
snapshotter records nothing.

An interrupted check goes on where it ended: ``HOME/.graphdriver/checked`` has the layers that were
sound, one in each line, until all were checked.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

from graphdriver.abilities import ability
from graphdriver.care.docker_records import place_of
from graphdriver.care.engine_checks import hit_by
from graphdriver.care.fsck import CheckedHome, FoundDamage, driver_of
from graphdriver.care.owners import KnownLayer
from graphdriver.care.tar_split import DiffersError, UnknownContentError, compare_with_tar
from graphdriver.errors import GraphDriverError
from graphdriver.files.small_files import read_text
from graphdriver.homes import ChecksContent, Damage, ReadsHome, StoredLayer
from graphdriver.serving.home_contents import OWN

WRONG_CONTENT: Final = "wrong-content"
CHECKED: Final = f"{OWN}/checked"

_TOO_OLD: Final = 86_400.0
"""After how many seconds an interrupted check begins anew."""
_LIST_LIMIT: Final = 64 << 20
"""The most bytes of the list that are read."""
_SHOWN: Final = 3


class ContentCheck:
    """A check of the content of all layers of a home that was checked otherwise.

    Args:
        home: the home; damages are added to it.

    Attributes:
        layers: the layers that are left to check.
    """

    def __init__(self, home: CheckedHome) -> None:
        self._home = home
        self._list = os.path.join(home.path, CHECKED)
        driver = driver_of(home)
        self._checks = ability(driver, ChecksContent)
        reads = ability(driver, ReadsHome)
        stored = sorted(reads.stored_layers(home.path), key=lambda one: one.id) if reads else []
        damaged = {one.damage.layer for one in home.found if one.damage.loses}
        done = self._done()
        self.layers = [one for one in stored if one.id not in done and one.id not in damaged]
        if skipped := len(stored) - len(self.layers) - len(damaged & {one.id for one in stored}):
            home.notes.append(
                f"the content of {skipped} of {len(stored)} layers was checked before, by a check that"
                " was interrupted"
            )

    def run(self) -> Iterator[str]:
        """Check each layer, and yield its ID."""
        unrecorded = 0
        unknown: list[str] = []
        for layer in self.layers:
            try:
                wrong = self._wrong(layer)
                if wrong is None:
                    unrecorded += 1
            except UnknownContentError as error:
                unknown.append(f"layer {layer.id}: {error}")
            except (GraphDriverError, OSError) as error:
                # It was removed meanwhile, or its damage is known.
                if os.path.isdir(os.path.join(self._home.path, layer.id)):
                    unknown.append(f"layer {layer.id}: {error}")
            else:
                if wrong:
                    self._add(layer.id, wrong)
                else:
                    self._note(layer.id)
            yield layer.id
        with contextlib.suppress(OSError):
            os.unlink(self._list)
        if unrecorded:
            self._home.notes.append(
                f"nothing was recorded of the content of {unrecorded} of {len(self.layers)} layers"
            )
        if unknown:
            self._home.notes.append(
                f"the content of {len(unknown)} layers could not be compared: "
                + "; ".join(unknown[:_SHOWN])
                + (" and others" if len(unknown) > _SHOWN else "")
            )

    def _wrong(self, layer: StoredLayer) -> str | None:
        """Return what is wrong with a layer's content; ``""`` if nothing is; None: nobody knows.

        Raises:
            UnknownContentError: what was recorded cannot be compared with.
        """
        if self._checks:
            wrong = self._checks.wrong_content(self._home.path, layer.id)
            if wrong is not None:
                return wrong
        records = self._home.records
        known = records.layers.get(layer.id) if records else None
        if not known or not known.diff_id or not known.chain_id:
            return None
        try:
            compare_with_tar(self._tar_split(known), layer.path, known.diff_id)
        except DiffersError as error:
            return str(error)
        return ""

    def _tar_split(self, known: KnownLayer) -> str:
        data_root, name = place_of(self._home.path)
        digest = known.chain_id.replace(":", "/")
        return os.path.join(data_root, "image", name, "layerdb", digest, "tar-split.json.gz")

    def _add(self, id: str, wrong: str) -> None:
        damage = Damage(WRONG_CONTENT, id, wrong, loses=True)
        owners = hit_by(damage, self._home.records)
        self._home.add([FoundDamage(self._home.path, damage, owners=owners)])

    def _done(self) -> set[str]:
        """Return the layers that an interrupted check found sound."""
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(self._list).st_mtime < _TOO_OLD:
                with contextlib.suppress(ValueError):  # damaged
                    text = read_text(self._list, _LIST_LIMIT)
                    return {*text.rpartition("\n")[0].split("\n")}
            os.unlink(self._list)
        return set()

    def _note(self, id: str) -> None:
        # Advice only: a check in a home that cannot be written to begins anew.
        with (
            contextlib.suppress(OSError),
            open(self._list, "a", encoding="utf-8", opener=_own_file) as file,
        ):
            file.write(f"{id}\n")


def _own_file(path: str, flags: int) -> int:
    """Open a file without following a link and without waiting for the reader of a FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
