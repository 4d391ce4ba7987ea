"""``graphdriver inspect``: all that is known of one layer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from graphdriver.cli import target
from graphdriver.cli.command import DAMAGED, OK, Command
from graphdriver.cli.layer_words import (
    damage_texts,
    first_of,
    is_called,
    layer_json,
    own_owners,
    owners_text,
    running_text,
    short,
    sizes_below,
)
from graphdriver.cli.quantities import ago, clock, number, several, size
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import GraphDriverError, LayerNotFoundError, MalformedRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphdriver.care.home_layers import HomeLayers
    from graphdriver.care.layer_tree import LayerNode
    from graphdriver.cli.answers import RunningCall
    from graphdriver.cli.screen import Page
    from graphdriver.cli.target import Target

_EXAMPLES = """\
examples:
  graphdriver inspect 4f0c1a               a layer, by its ID or the beginning of it
  graphdriver inspect debian:12            the topmost layer of an image
  graphdriver inspect --plugin py-overlay2 web          the layer of a container
  graphdriver inspect --home /var/lib/docker/py-overlay2 4f0c1a --json
"""

_NOTES = """\
The chain shows the layer and all below it, down to the first. A plugin of another author tells only
whether the layer exists, and its metadata; the ID must be whole.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("id", metavar="ID", help="a layer's ID, or an image's or container's name")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.cli import screen
    from graphdriver.cli.answers import read_calls

    with target.target_of(arguments) as found:
        if found.is_foreign:
            return _foreign(found, arguments.id, as_json=arguments.json)
        layers = found.layers()
        node = _named(layers, arguments.id)
        running = [
            call
            for call in (read_calls(found.ask("calls")) if found.ask else [])
            if node.id in (call.layer, call.waits_for)
        ]
        metadata = _metadata(found, node.id)
    chain = list(layers.tree.chain(node.id))
    if arguments.json:
        screen.print_json(
            {
                **layer_json(node),
                "chain": [one.id for one in chain],
                "metadata": metadata,
                "notes": [*layers.lost, *layers.notes],
            }
        )
    else:
        page = screen.page()
        _draw(page, layers, node, chain, running, metadata or {})
        screen.show(page)
    return DAMAGED if node.damage else OK


def _named(layers: HomeLayers, name: str) -> LayerNode:
    """Return the layer that a name, an ID, or the beginning of an ID leads to.

    Raises:
        LayerNotFoundError: none.
        MalformedRequestError: several.
    """
    nodes = layers.tree.layers
    if name in nodes:
        return nodes[name]
    # As "layers" shows IDs: a container's layer, and the same with -init, begin alike.
    length = len(name.removesuffix("-init"))
    found = [id for id in nodes if name and short(id, length) == name]
    if not found:
        found = [id for id in nodes if name and id.startswith(name)]
    if not found:
        found = [
            node.id
            for node in nodes.values()
            if any(is_called(one, name) for one in node.owners or ())
            and any(is_called(one, name) for one in own_owners(layers.tree, node))
        ]
    if not found:
        raise LayerNotFoundError(
            f"no layer, image or container is called {name}",
            hint='list the layers with "graphdriver layers"',
        )
    if len(found) > 1:
        some = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
        raise MalformedRequestError(
            f"{name} is the beginning of {several(len(found), 'ID')}", hint=f"name one of {some}"
        )
    return nodes[found[0]]


def _metadata(found: Target, id: str) -> Mapping[str, str] | None:
    """Return what the driver tells of a layer; None if it cannot be asked, or does not answer."""
    if found.client is None:
        return None
    try:
        return found.client.get_metadata(id)
    except GraphDriverError:
        return None


def _draw(
    page: Page,
    layers: HomeLayers,
    node: LayerNode,
    chain: list[LayerNode],
    running: list[RunningCall],
    metadata: Mapping[str, str],
) -> None:
    page.line(Toned(f"layer {node.id}", Tone.HEADING))
    damaged = [one for one in chain if one.damage]
    for text in damage_texts(layers.lost, damaged, layers.home):
        page.line(Toned(f"! {text}", Tone.BAD))
    if node.unfinished:
        page.line(
            Toned(
                "! it is incomplete: its transfer runs, or broke off; then only Remove takes it",
                Tone.WARNING,
            )
        )
    for call in running:
        page.line(Toned(f"! {running_text(call)}", Tone.WARNING))
    for note in first_of(layers.notes):
        page.line(Toned(f"! {note}", Tone.WARNING))
    page.pairs([*_facts(layers, node), *metadata.items()], whole=True)
    page.line()
    page.table(
        [
            Column("CHAIN"),
            Column("OWN", right=True),
            Column("INODES", right=True),
            Column("MADE", right=True),
            Column("TOPMOST LAYER OF", shrinks=True),
        ],
        [
            [
                short(one.id),
                size(one.own_size),
                number(one.inodes),
                ago(one.created, time.time()),
                Toned(owners_text(own_owners(layers.tree, one)), Tone.STRONG),
            ]
            for one in chain
        ],
    )
    below = chain[-1].parent
    if below:
        text = f"the parent of {short(chain[-1].id)}, {below}, does not exist"
        page.line(Toned(text, Tone.WARNING))


def _facts(layers: HomeLayers, node: LayerNode) -> Iterator[tuple[str, str]]:
    now = time.time()
    if node.owners:
        yield "belongs to", owners_text(node.owners)
    elif node.owners is not None:
        yield "belongs to", Toned("nothing that the engine knows", Tone.WARNING)
    if node.parent is None:
        yield "parent", "unknown"
    else:
        yield "parent", node.parent or "none"
    if node.children:
        yield "children", ", ".join(map(short, node.children))
    inodes = f", {several(node.inodes, 'inode')}" if node.inodes is not None else ""
    yield "own size", f"{size(node.own_size)}{inodes}"
    yield "below", sizes_below(layers.tree)[node.id]
    if node.created is not None:
        yield "made", f"{clock(node.created)} ({ago(node.created, now)})"
    if node.applied is not None:
        yield "filled", f"{clock(node.applied)} ({ago(node.applied, now)})"
    if node.mounted is not None:
        references = (
            f", {several(node.references, 'reference')}" if node.references is not None else ""
        )
        yield "mounted", f"{'yes' if node.mounted else 'no'}{references}"
    if node.gets is not None:
        by = f" by {node.got_by}" if node.got_by else ""
        last = f", last {ago(node.last_get, now)}{by}" if node.last_get else ""
        yield "gets", f"{number(node.gets)}{last}"
    if node.path:
        yield "content", node.path
    stored = layers.stored.get(node.id) if layers.stored else None
    for path in stored.beside if stored else ():
        yield "and", path


def _foreign(found: Target, id: str, *, as_json: bool) -> int:
    from graphdriver.cli import screen

    assert found.client
    if not found.client.exists(id):
        raise LayerNotFoundError(
            f"layer {id} does not exist",
            hint="a plugin of another author lists no layers: see its home",
        )
    metadata = dict(found.client.get_metadata(id))
    if as_json:
        screen.print_json({"id": id, "metadata": metadata})
        return OK
    page = screen.page()
    page.line(Toned(f"layer {id}", Tone.HEADING))
    text = "the plugin answers no questions (another author's, or older): this is its GetMetadata"
    page.line(Toned(text, Tone.QUIET))
    page.pairs(list(metadata.items()), whole=True)
    screen.show(page)
    return OK


COMMAND: Final = Command(
    name="inspect",
    summary="show all that is known of one layer",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
