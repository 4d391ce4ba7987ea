"""The layers of a home with all that can be read of them: by the driver, the framework, the engine.

Nothing is written, and the home may be served meanwhile. What cannot be read becomes a note, and the
rest is told all the same: whoever looks at a home may do so because it is damaged.

- The driver's files decide which layers there are (`graphdriver.homes.ReadsHome`). If they cannot be
  read, all that the others know is told.
- The running plugin tells when each layer was made, its size, and its Gets; the home's journal tells
  the same without the Gets.
- The check of the home tells which layers are damaged (`graphdriver.care.fsck`).
- The engine's records tell what each layer belongs to. A layer that one of its images or containers
  needs, and that does not exist, is told as damaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from graphdriver.abilities import ability
from graphdriver.care import engine_records, fsck
from graphdriver.care.framework_checks import UNFINISHED_LAYER
from graphdriver.care.layer_changes import AskPlugin, LayerChanges, read_changes
from graphdriver.care.layer_tree import LayerNode, LayerTree
from graphdriver.care.owners import EngineRecords, KnownLayer
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.loading import describe_exception, load_installed
from graphdriver.errors import GraphDriverError
from graphdriver.homes import ReadsHome, StoredLayer
from graphdriver.linux.mountinfo import mounts_in
from graphdriver.serving.home import MARKS, Identity, identity_of
from graphdriver.serving.layer_journal import read_journal
from graphdriver.serving.layer_records import read_records

_NO_CONTENT: Final = "the directory with its content is missing"
_RECORDS_ONLY: Final = "shown is only what the plugin and the engine know"
_MISSING: Final = "it is needed, and does not exist"


@dataclass(frozen=True, slots=True)
class HomeLayers:
    """The layers of a home.

    Attributes:
        home: its path; ``""`` if only the plugin's answer is known.
        identity: its engine and driver; None if its record is missing or damaged.
        tree: the layers.
        stored: the layers by the driver's files; None if it cannot tell.
        notes: what could not be read, one sentence each, without a full stop.
        driver: the driver's class; None if it is unknown, or not installed here.
        lost: what is wrong with the home itself, as sentences likewise.
        repairs: how many things ``graphdriver fsck`` would repair.
    """

    home: str
    identity: Identity | None
    tree: LayerTree
    stored: Mapping[str, StoredLayer] | None
    notes: tuple[str, ...]
    driver: type[ProtoDriver] | None = None
    lost: tuple[str, ...] = ()
    repairs: int = 0

    def changes(self, node: LayerNode, limit: int, ask: AskPlugin | None = None) -> LayerChanges:
        """Return what a layer changed against its parent.

        Args:
            node: the layer.
            limit: how many changes are listed.
            ask: calls Changes of the running plugin, if the driver's class cannot tell.
        """
        return read_changes(self.driver, self.home, node.id, node.parent, limit, ask)

    @property
    def damaged(self) -> list[LayerNode]:
        """The layers of which it is known that they cannot be used."""
        return [node for node in self.tree.layers.values() if node.damage]

    @property
    def is_damaged(self) -> bool:
        """Whether the home or one of its layers is damaged."""
        return bool(self.lost or self.damaged)


def read_home_layers(home: str, told: Iterable[LayerNode] = ()) -> HomeLayers:
    """Read the layers of a home.

    Args:
        home: the absolute path of an existing directory.
        told: what the running plugin says about its layers.

    Raises:
        OSError: the home cannot be read.
    """
    os.listdir(home)
    reading = _Reading(home)
    recorded = {node.id: node for node in told} or reading.journal()
    tree = LayerTree.of(reading.nodes(recorded))
    return HomeLayers(
        home,
        reading.identity,
        tree,
        reading.stored,
        tuple(one for one in reading.notes if one not in reading.lost),
        reading.driver,
        tuple(reading.lost),
        reading.repairs,
    )


class _Reading:
    """What was read of a home so far."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.notes: list[str] = []
        self.lost: list[str] = []
        self.identity = self._identity()
        # Before the layers: the engine makes a layer before its record, and removes it before that.
        self.records = self._records()
        self.driver = self._driver()
        self.stored = self._stored()
        self.missing = self._missing()
        self.unfinished = self._unfinished()
        self.repairs = 0
        self.damages = self._damages()
        self.mounted = self._mounted()

    def _identity(self) -> Identity | None:
        try:
            found = identity_of(self.home)
        except GraphDriverError as error:
            self.lost.append(str(error))
        except OSError as error:
            self.notes.append(f"the record of the home cannot be read: {error.strerror}")
        else:
            if found is None:
                self.notes.append(
                    f"{self.home} has no record of its engine and driver: it is no home, or damaged"
                )
            return found
        return None

    def journal(self) -> dict[str, LayerNode]:
        """Read what earlier processes recorded of the layers."""
        try:
            records = read_records(read_journal(self.home))
        except FileNotFoundError:  # of a home that was made before there was one
            return {}
        except (OSError, ValueError) as error:
            self.notes.append(f"the journal of the layers cannot be read: {error}")
            return {}
        return {
            id: LayerNode(
                id,
                one.parent,
                own_size=one.size,
                inodes=one.inodes,
                created=one.created,
                applied=one.applied,
            )
            for id, one in records.items()
        }

    def _records(self) -> EngineRecords | None:
        """Read the engine's records; None if there are none here, or none that can be read."""
        found = engine_records.read_records(
            self.home, self.identity.engine if self.identity else ""
        )
        if found:
            self.notes += [one for one in found.unread if one not in self.notes]
        return found

    def _driver(self) -> type[ProtoDriver] | None:
        """Load the driver's class; None if it is not installed here."""
        if self.identity is None:
            return None
        try:
            return load_installed(self.identity.driver)
        except GraphDriverError as error:
            self.notes.append(f"{_RECORDS_ONLY}: {error.problem}")
            return None

    def _stored(self) -> dict[str, StoredLayer] | None:
        """Read the driver's files; None if the driver cannot."""
        if self.identity is None or self.driver is None:
            return None
        name = self.identity.driver
        reads = ability(self.driver, ReadsHome)
        if reads is None:
            self.notes.append(f"{_RECORDS_ONLY}: the driver {name} cannot list its layers")
            return None
        try:
            return {one.id: one for one in reads.stored_layers(self.home)}
        except (Exception, SystemExit) as error:  # it may be anybody's
            self.notes.append(
                f"{_RECORDS_ONLY}: the driver {name} cannot read the home:"
                f" {describe_exception(error)}"
            )
            return None

    def _missing(self) -> frozenset[str]:
        """Return the layers that the engine needs and that do not exist."""
        if self.stored is None:
            return frozenset()
        missing = _needed(self.records) - self.stored.keys()
        if missing:  # the engine may have removed them since its records were read
            missing &= _needed(self._records())
        return frozenset(missing)

    def _unfinished(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(os.path.join(self.home, MARKS)))
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            self.notes.append(f"the marks of unfinished layers cannot be read: {error.strerror}")
            return frozenset()

    def _damages(self) -> dict[str, str]:
        """Check the home; return what is wrong with each damaged layer, and count other findings."""
        if self.stored is None:  # then it was told why
            return {}
        try:
            found = fsck.check(self.home).found
        except (Exception, SystemExit) as error:  # the driver may be anybody's
            self.notes.append(f"the home cannot be checked: {describe_exception(error)}")
            return {}
        damages: dict[str, str] = {}
        for one in found:
            damage = one.damage
            if damage.loses and damage.layer:
                damages.setdefault(damage.layer, damage.text)
            elif damage.loses:
                self.lost.append(damage.text)
            elif damage.code != UNFINISHED_LAYER:
                self.repairs += 1
        return damages

    def _mounted(self) -> frozenset[str] | None:
        try:
            return frozenset(mounts_in(self.home))
        except OSError:
            return None

    # --- merging ----------------------------------------------------------------------------------

    def nodes(self, told: Mapping[str, LayerNode]) -> Iterable[LayerNode]:
        """Yield each layer with all that is known of it."""
        known = self.records.layers if self.records else {}
        if self.stored is None:
            ids = {*told, *known, *self.unfinished}
        else:
            ids = {*self.stored, *self.missing}
        for id in ids:
            yield self._node(id, told.get(id) or LayerNode(id, None), known.get(id))

    def _node(self, id: str, told: LayerNode, known: KnownLayer | None) -> LayerNode:
        stored = self.stored.get(id) if self.stored is not None else None
        usage = stored.usage if stored else None
        counts = (
            (told.own_size, told.inodes),
            (known.size if known else None, None),
            (usage.size, usage.inodes) if usage else (None, None),
        )
        size, inodes = next((one for one in counts if one[0] is not None), (None, None))
        damage = self.damages.get(id, "")
        if id in self.missing:
            damage = _MISSING
        elif stored and not stored.path and not damage:
            damage = _NO_CONTENT
        owners = None
        if self.records and (known or not self.records.unread):
            owners = known.owners if known else ()
        return LayerNode(
            id,
            _parent(stored, told, known),
            path=stored.path if stored else "",
            own_size=size,
            inodes=inodes,
            created=told.created,
            applied=told.applied,
            gets=told.gets,
            last_get=told.last_get,
            got_by=told.got_by,
            mounted=id in self.mounted if self.mounted is not None else told.mounted,
            references=told.references,
            owners=owners,
            unfinished=id in self.unfinished,
            damage=damage,
        )


def _needed(records: EngineRecords | None) -> set[str]:
    """Return the layers that an image or a container needs by the engine's records."""
    return {id for id, layer in records.layers.items() if layer.owners} if records else set()


def _parent(stored: StoredLayer | None, told: LayerNode, known: KnownLayer | None) -> str | None:
    """Return a layer's parent by the first that knows it; ``""`` is known, too."""
    if stored and stored.parent is not None:
        return stored.parent
    if told.parent is not None:
        return told.parent
    return known.parent if known else None
