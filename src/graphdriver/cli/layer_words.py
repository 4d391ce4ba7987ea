"""Layers, their owners and calls in the words of the commands that look."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from graphdriver.care.owners import Owner, OwnerKind
from graphdriver.cli.quantities import UNKNOWN, moment, period, several, size
from graphdriver.cli.table import Tone, Toned

if TYPE_CHECKING:
    from graphdriver.care.layer_tree import LayerNode, LayerTree
    from graphdriver.cli.answers import RunningCall

_LEAST: Final = 12
"""How many characters of a long ID are shown at least, as Docker does."""
_MOST: Final = 4
"""How many damages and notes are shown, so that the rest of the page fits the screen."""
_LONG_ID: Final = re.compile(r"([0-9a-z]{25,64})(-init)?")
"""IDs that Docker (64 characters) and BuildKit (25) make of random numbers."""
_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


def short(id: str, length: int = _LEAST) -> str:
    """Return a long ID by its beginning, as Docker does; ``-init`` behind it stays."""
    found = _LONG_ID.fullmatch(id)
    return f"{found[1][:length]}{found[2] or ''}" if found else id


def short_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return the shown form of each of some IDs: as short as all of them differ."""
    given = list(ids)
    length = _LEAST
    while True:
        shown = {id: short(id, length) for id in given}
        if len(set(shown.values())) == len(shown):
            return shown
        length += 4


def sizes_below(tree: LayerTree) -> Mapping[str, str]:
    """Return the size of all layers below each layer; ``12MB+`` if some of them were not counted."""
    known: dict[str, tuple[int, bool]] = {}
    for id, node in tree.layers.items():  # parents come first
        parent = tree.layers.get(node.parent or "")
        below, is_whole = known.get(node.parent or "", (0, node.parent == ""))
        if parent:
            below += parent.own_size or 0
            is_whole = is_whole and parent.own_size is not None
        known[id] = below, is_whole
    return {
        id: size(below) if is_whole else f"{size(below)}+" if below else UNKNOWN
        for id, (below, is_whole) in known.items()
    }


def own_owners(tree: LayerTree, node: LayerNode) -> list[Owner]:
    """Return the owners whose topmost layer this is: those that no layer on it has, too."""
    above = {owner for id in node.children for owner in tree.layers[id].owners or ()}
    return [owner for owner in node.owners or () if owner not in above]


def running_text(call: RunningCall) -> str:
    """Return in one sentence what a running call does."""
    parts = [f"{call.call} {short(call.subject)}".rstrip()]
    parts.append(f"runs for {period(call.seconds)}")
    if call.bytes:
        parts.append(f"has moved {size(call.bytes)}")
    if call.waits_for:
        held = f", held by {call.held_by}" if call.held_by else ""
        parts.append(f"waits for layer {short(call.waits_for)}{held}")
    if call.peer:
        parts.append(f"was made by {call.peer}")
    return f"{parts[0]} {', '.join(parts[1:])}"


def owners_text(owners: Iterable[Owner]) -> str:
    """Return the names of owners, images first: ``debian:12, container web``."""
    order = list(OwnerKind)
    named = sorted(owners, key=lambda one: (order.index(one.kind), one.name == one.id, one.name))
    return ", ".join(map(_owner_text, named))


def is_called(owner: Owner, name: str) -> bool:
    """Tell whether this is an owner's ID, or one of its names."""
    return name == owner.id or name in owner.name.split(", ")  # an image may have several


def _owner_text(owner: Owner) -> str:
    if owner.kind is OwnerKind.IMAGE and owner.name != owner.id:
        return owner.name
    digest = _DIGEST.fullmatch(owner.name)
    return f"{owner.kind.value} {digest[1][:_LEAST] if digest else owner.name}"


def belongs_to(tree: LayerTree, node: LayerNode) -> str:
    """Return what a layer belongs to, or why it belongs to nothing: the last column of tables."""
    if node.damage:
        names = owners_text(own_owners(tree, node)) or _below_text(node)
        return Toned(f"DAMAGED: {names}" if names else "DAMAGED", Tone.BAD)
    if node.unfinished:
        return Toned("incomplete: its transfer runs, or broke off", Tone.WARNING)
    if node.owners is None:
        return UNKNOWN
    if not node.owners:
        return Toned("nothing that the engine knows", Tone.WARNING)
    if own := own_owners(tree, node):
        return Toned(owners_text(own), Tone.STRONG)
    return Toned(_below_text(node), Tone.QUIET)


def _below_text(node: LayerNode) -> str:
    """Return how many owners a layer has through the layers on it: ``2 images, 1 container``."""
    counts: dict[str, int] = {}
    for owner in node.owners or ():
        counts[owner.kind.value] = counts.get(owner.kind.value, 0) + 1
    return ", ".join(several(count, kind) for kind, count in counts.items())


def damage_texts(lost: Sequence[str], damaged: Sequence[LayerNode], home: str) -> Iterator[str]:
    """Yield the first damages of a home in words, and what to do.

    Args:
        lost: what is wrong with the home itself.
        damaged: its damaged layers.
        home: its path.
    """
    yield from first_of(lost)
    for node in damaged[:_MOST]:
        yield f"layer {short(node.id)} is damaged: {node.damage}"
    if damaged:
        yield f"{several(len(damaged), 'damaged layer')} in all: graphdriver fsck {home}"


def first_of(texts: Sequence[str]) -> Iterator[str]:
    """Yield a few of many texts, and how many there are besides, so that all fits one screen."""
    yield from texts[:_MOST]
    if len(texts) > _MOST:
        yield f"and {len(texts) - _MOST:,} more like these: --json shows all"


def repairs_text(repairs: int, home: str) -> str:
    """Return what to do about findings that are no damage."""
    return f"{several(repairs, 'thing')} to repair: graphdriver fsck {home}"


def counted_text(nodes: Collection[LayerNode]) -> str:
    """Return how many layers there are, and the size of those whose size is known."""
    counted = [node.own_size for node in nodes if node.own_size is not None]
    text = several(len(nodes), "layer")
    if not counted:
        return f"{text}, none counted" if nodes else text
    without = len(nodes) - len(counted)
    return f"{text}, {size(sum(counted))}" + (f", {without:,} not counted" if without else "")


def owner_json(owner: Owner) -> dict[str, str]:
    """Return an owner for programs."""
    return {"kind": owner.kind.value, "id": owner.id, "name": owner.name}


def layer_json(node: LayerNode) -> dict[str, object]:
    """Return a layer for programs; a member is null where nothing is known."""
    return {
        "id": node.id,
        "parent": node.parent,
        "children": list(node.children),
        "path": node.path or None,
        "own_size": node.own_size,
        "shared_size": node.shared_size,
        "inodes": node.inodes,
        "created": moment(node.created),
        "applied": moment(node.applied),
        "gets": node.gets,
        "last_get": moment(node.last_get),
        "got_by": node.got_by or None,
        "mounted": node.mounted,
        "references": node.references,
        "owners": None if node.owners is None else [owner_json(owner) for owner in node.owners],
        "unfinished": node.unfinished,
        "damage": node.damage or None,
    }
