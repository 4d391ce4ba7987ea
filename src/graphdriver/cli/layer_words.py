"""Layers, their owners and calls in the words of the commands that look."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from graphdriver.cli.quantities import UNKNOWN, moment, period, several, size
from graphdriver.cli.table import Tone, Toned

if TYPE_CHECKING:
    from graphdriver.care.layer_tree import LayerNode, LayerTree
    from graphdriver.care.owners import Owner
    from graphdriver.cli.answers import RunningCall

_LEAST: Final = 12
"""How many characters of a long ID are shown at least, as Docker does."""
_LONG: Final = 32
"""IDs of at least this length are shown by their beginnings."""
_HEX: Final = re.compile(rf"([0-9a-f]{{{_LONG},}})(.*)", re.DOTALL)


def short(id: str, length: int = _LEAST) -> str:
    """Return a long hexadecimal ID by its beginning, as Docker does; ``-init`` behind it stays."""
    found = _HEX.fullmatch(id)
    return f"{found[1][:length]}{found[2]}" if found else id


def short_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return the shown form of each of some IDs: as short as all of them differ."""
    given = list(ids)
    length = _LEAST
    while True:
        shown = {id: short(id, length) for id in given}
        if len(set(shown.values())) == len(shown):
            return shown
        length += 4


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
    """Return the names of owners: ``debian:12, container web``."""
    return ", ".join(
        owner.name if owner.kind.value == "image" else f"{owner.kind.value} {short(owner.name)}"
        for owner in owners
    )


def belongs_to(tree: LayerTree, node: LayerNode) -> str:
    """Return what a layer belongs to, or why it belongs to nothing: the last column of tables."""
    if node.damage:
        return Toned(f"DAMAGED: {node.damage}", Tone.BAD)
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
    """Return how many owners a layer has through the layers on it: ``in 2 images, 1 container``."""
    counts: dict[str, int] = {}
    for owner in node.owners or ():
        counts[owner.kind.value] = counts.get(owner.kind.value, 0) + 1
    return f"in {', '.join(several(count, kind) for kind, count in counts.items())}"


def counted_text(nodes: Collection[LayerNode]) -> str:
    """Return how many layers there are, and the size of those whose size is known."""
    counted = [node.own_size for node in nodes if node.own_size is not None]
    text = several(len(nodes), "layer")
    if not counted:
        return f"{text}, none counted" if nodes else text
    without = len(nodes) - len(counted)
    return f"{text}, {size(sum(counted))}" + (f", {without:,} not counted" if without else "")


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
        "owners": None
        if node.owners is None
        else [
            {"kind": owner.kind.value, "id": owner.id, "name": owner.name} for owner in node.owners
        ],
        "unfinished": node.unfinished,
        "damage": node.damage or None,
    }
