"""``graphdriver layers``: the tree of layers, their sizes, and what each belongs to."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from graphdriver.cli import target
from graphdriver.cli.command import DAMAGED, OK, Command
from graphdriver.cli.layer_words import (
    belongs_to,
    counted_text,
    damage_texts,
    first_of,
    layer_json,
    repairs_text,
    short_ids,
    sizes_below,
)
from graphdriver.cli.quantities import ago, number, several, size
from graphdriver.cli.table import Column, Tone, Toned

if TYPE_CHECKING:
    from graphdriver.care.home_layers import HomeLayers
    from graphdriver.care.layer_changes import AskPlugin, LayerChanges
    from graphdriver.care.layer_tree import LayerNode, LayerTree
    from graphdriver.cli.screen import Page

_DEEPEST: Final = 10
"""How many branches are drawn beside each other at most: a deeper one would leave no room."""

_EXAMPLES = """\
examples:
  graphdriver layers                               the only plugin of this machine
  graphdriver layers --plugin py-overlay2
  graphdriver layers --socket /run/gd/mine.sock    a snapshotter, or a plugin by its socket
  graphdriver layers --home /var/lib/docker/py-overlay2    also if no process serves it
  graphdriver layers --html layers.html            a page for a browser
  graphdriver layers --json | jq -r '.layers[] | select(.owners == []).id'
"""

_NOTES = """\
A layer stands below its parent; layers on the same parent are branches. OWN is the size of a layer's
own files, as it was counted when the layer was filled; BELOW is that of all layers below it, which it
shares with others (with a "+": not all of them were counted). A name stands at the topmost layer of its
image or container.

The page is one file and loads nothing. Writing it takes time, since the content of all layers is read.
Only its owner can read the file, which has the names of files in your images.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument(
        "--html",
        metavar="FILE",
        help="write a page for a browser, also with what each layer added, changed and deleted",
    )


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.cli import screen

    with target.target_of(arguments) as found:
        layers = found.layers()
        if arguments.html:
            _write_page(layers, arguments.html, found.client.changes if found.client else None)
    if arguments.json:
        screen.print_json(
            {
                "home": layers.home or None,
                "layers": [layer_json(node) for node in layers.tree.layers.values()],
                "notes": [*layers.lost, *layers.notes],
            }
        )
    elif not arguments.html:
        page = screen.page()
        _draw(page, layers, screen.has_unicode())
        screen.show(page)
    return DAMAGED if layers.is_damaged else OK


def _write_page(layers: HomeLayers, file: str, ask: AskPlugin | None) -> None:
    from graphdriver.care.layer_page import listed_per_layer, write_page
    from graphdriver.cli import screen

    limit = listed_per_layer(len(layers.tree.layers))
    with screen.progress("reading what the layers changed", len(layers.tree.layers)) as done:

        def changes_of(node: LayerNode) -> LayerChanges:
            found = layers.changes(node, limit, ask)
            done(1)
            return found

        write_page(layers, changes_of, file)
    page = screen.page()
    draw_notes(page, layers)
    page.line(f"{file}: {several(len(layers.tree.layers), 'layer')}; open it in a browser")
    screen.show(page)


def _draw(page: Page, layers: HomeLayers, has_unicode: bool) -> None:
    tree = layers.tree
    draw_notes(page, layers)
    ids, below = short_ids(tree.layers), sizes_below(tree)
    now = time.time()
    rows = []
    for prefix, node in drawn(tree, has_unicode):
        rows.append(
            [
                prefix + ids[node.id],
                size(node.own_size),
                below[node.id],
                ago(node.created, now),
                number(node.gets),
                belongs_to(tree, node),
            ]
        )
    page.table(
        [
            Column("LAYER"),
            Column("OWN", right=True),
            Column("BELOW", right=True),
            Column("MADE", right=True),
            Column("GETS", right=True),
            Column("BELONGS TO", shrinks=True),
        ],
        rows,
    )
    page.line(Toned(counted_text(tree.layers.values()), Tone.QUIET))


def draw_notes(page: Page, layers: HomeLayers) -> None:
    """Add what is damaged, and what could not be read, before everything else."""
    for text in damage_texts(layers.lost, layers.damaged, layers.home):
        page.line(Toned(f"! {text}", Tone.BAD))
    if layers.repairs:
        page.line(Toned(f"! {repairs_text(layers.repairs, layers.home)}", Tone.WARNING))
    for note in first_of(layers.notes):
        page.line(Toned(f"! {note}", Tone.WARNING))


def drawn(tree: LayerTree, has_unicode: bool = True) -> Iterator[tuple[str, LayerNode]]:
    """Yield each layer with the lines in front of it, parents first.

    A layer that is alone on its parent stands right below it, so that an image of a hundred layers is a
    straight line; each of several on the same parent begins a branch.
    """
    fork, last, along, deep = ("├─", "└─", "│ ", "… ") if has_unicode else ("|-", "`-", "| ", "> ")
    waiting: list[tuple[str, str, str, int]] = [(id, "", "", 0) for id in reversed(tree.roots)]
    while waiting:
        id, prefix, below, depth = waiting.pop()
        node = tree.layers[id]
        yield prefix, node
        if len(node.children) == 1:
            waiting.append((node.children[0], below, below, depth))
            continue
        for at, child in enumerate(reversed(node.children)):
            if depth >= _DEEPEST:
                waiting.append((child, below[:-2] + deep, below, depth))
            elif at == 0:
                waiting.append((child, below + last, below + "  ", depth + 1))
            else:
                waiting.append((child, below + fork, below + along, depth + 1))


COMMAND: Final = Command(
    name="layers",
    summary="show the layers, their sizes, and what each belongs to",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
