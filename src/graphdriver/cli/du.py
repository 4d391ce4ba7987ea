"""``graphdriver du``: the disk usage of layers, as it was counted or by a walk."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from graphdriver.cli import target
from graphdriver.cli.command import DAMAGED, OK, WARNED, Command
from graphdriver.cli.layer_words import belongs_to, counted_text, short_ids
from graphdriver.cli.layers import draw_notes
from graphdriver.cli.quantities import UNKNOWN, number, part, several, size
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import GraphDriverError, UnsupportedError

if TYPE_CHECKING:
    from graphdriver.care.home_layers import HomeLayers
    from graphdriver.care.layer_tree import LayerNode
    from graphdriver.cli.screen import Page

_EXAMPLES = """\
examples:
  graphdriver du                                   the only plugin of this machine
  graphdriver du --plugin py-overlay2
  graphdriver du --home /var/lib/docker/py-overlay2 --verify    walk through all files
  graphdriver du --json | jq '[.layers[].counted] | add'
"""

_NOTES = """\
COUNTED is the size of a layer's own files, as it was counted when the layer was filled. With --verify,
ON DISK is what a walk finds: whole blocks, each inode once. Where a layer's tree is a copy or a
snapshot of its parent's (vfs, btrfs), the walk counts what both share, too. A terminal shows the
largest layers only, and a pipe gets all.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument(
        "--verify", action="store_true", help="walk through all files of all layers, and compare"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


class _Row(NamedTuple):
    """A layer, and what a walk through it found.

    Attributes:
        node: the layer.
        size: bytes on disk; None: there was no walk.
        inodes: their number; likewise.
        problem: why a walk failed; ``""``: it did not.
    """

    node: LayerNode
    size: int | None = None
    inodes: int | None = None
    problem: str = ""

    @property
    def largest(self) -> int:
        """What the rows are sorted by."""
        return self.size if self.size is not None else self.node.own_size or 0

    @property
    def is_wrong(self) -> bool:
        """Whether the disk usage was counted when the layer was filled, and is another one now."""
        # Sizes without a number of inodes are those of a tar's content, not of blocks.
        counted = (self.node.own_size, self.node.inodes)
        return self.size is not None and None not in counted and counted != (self.size, self.inodes)


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.cli import screen

    with target.target_of(arguments) as found:
        layers = found.layers()
    rows = (
        _walked(layers) if arguments.verify else [_Row(one) for one in layers.tree.layers.values()]
    )
    rows.sort(key=lambda row: (-row.largest, row.node.id))
    if arguments.json:
        screen.print_json(
            {
                "home": layers.home or None,
                "layers": [_as_json(row, verified=arguments.verify) for row in rows],
                "notes": [*layers.lost, *layers.notes],
            }
        )
    else:
        page = screen.page()
        _draw(page, layers, rows, verified=arguments.verify)
        screen.show(page)
    if layers.is_damaged:
        return DAMAGED
    return WARNED if any(row.is_wrong or row.problem for row in rows) else OK


def _walked(layers: HomeLayers) -> list[_Row]:
    """Walk through all layers."""
    from graphdriver.care.usage import count_usage
    from graphdriver.cli.screen import progress

    if layers.stored is None:
        raise UnsupportedError(
            "--verify: the files of the layers are not known here",
            hint="run it on the plugin's machine, with its driver installed",
        )
    rows = []
    with progress("walking through layers", len(layers.tree.layers)) as done:
        for node in layers.tree.layers.values():
            stored = layers.stored.get(node.id)
            try:
                usage = count_usage(stored) if stored else None
            except (GraphDriverError, OSError) as error:
                rows.append(_Row(node, problem=str(error)))
            else:
                rows.append(_Row(node, usage.size, usage.inodes) if usage else _Row(node))
            done(1)
    return rows


def _as_json(row: _Row, *, verified: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "id": row.node.id,
        "counted": row.node.own_size,
        "counted_inodes": row.node.inodes,
    }
    if verified:
        found |= {
            "on_disk": row.size,
            "inodes": row.inodes,
            "differs": row.is_wrong,
            "problem": row.problem or None,
        }
    return found


def _draw(page: Page, layers: HomeLayers, rows: list[_Row], *, verified: bool) -> None:
    draw_notes(page, layers)
    shown = page.fitting(rows, spare=4)
    ids = short_ids(layers.tree.layers)
    columns = [Column("LAYER"), Column("COUNTED", right=True)]
    if verified:
        columns += [Column("ON DISK", right=True), Column("INODES", right=True)]
    page.table(
        [*columns, Column("BELONGS TO", shrinks=True)],
        [
            [
                ids[row.node.id],
                size(row.node.own_size),
                *(_walk_cells(row) if verified else ()),
                Toned(row.problem, Tone.BAD) if row.problem else belongs_to(layers.tree, row.node),
            ]
            for row in shown
        ],
    )
    rest = rows[len(shown) :]
    if rest:
        text = f"and {several(len(rest), 'layer')} more, {size(sum(row.largest for row in rest))}"
        page.line(Toned(text, Tone.QUIET))
    page.line()
    page.pairs(_totals(layers, rows, verified=verified))


def _walk_cells(row: _Row) -> tuple[str, str]:
    tone = Tone.WARNING if row.is_wrong else Tone.PLAIN
    return Toned(size(row.size), tone), Toned(number(row.inodes), tone)


def _totals(layers: HomeLayers, rows: list[_Row], *, verified: bool) -> list[tuple[str, str]]:
    from graphdriver.cli.answers import disk_of

    found = [("counted", counted_text([row.node for row in rows]))]
    if verified:
        inodes = number(sum(row.inodes or 0 for row in rows))
        found.append(("on disk", f"{size(sum(row.size or 0 for row in rows))}, {inodes} inodes"))
        if wrong := sum(row.is_wrong for row in rows):
            text = f"{several(wrong, 'layer')} not as counted"
            found.append(("differ", Toned(text, Tone.WARNING)))
    disk = disk_of(layers.home) if layers.home else None
    found.append(
        (
            "disk",
            f"{size(disk.size - disk.free)} of {size(disk.size)} used,"
            f" {size(disk.free)} ({part(disk.free, disk.size)}) free"
            if disk
            else UNKNOWN,
        )
    )
    return found


COMMAND: Final = Command(
    name="du",
    summary="show the disk usage of layers",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
