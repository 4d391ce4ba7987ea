"""``graphdriver status``: what a plugin serves, how it is, and what it has done."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graphdriver.cli import target
from graphdriver.cli.command import DAMAGED, FAILED, OK, Command
from graphdriver.cli.layer_words import damage_texts, first_of, repairs_text, running_text
from graphdriver.cli.quantities import (
    UNKNOWN,
    ago,
    clock,
    milliseconds,
    moment,
    number,
    part,
    period,
    several,
    size,
)
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import BadAnswerError, RemoteError, UnreachableError

if TYPE_CHECKING:
    from graphdriver.care.home_layers import HomeLayers
    from graphdriver.care.layer_tree import LayerNode
    from graphdriver.cli.answers import CallCounts, Disk, RunningCall, Status
    from graphdriver.cli.screen import Page
    from graphdriver.cli.target import Target

_LONG: Final = 30.0
"""From how many seconds on a running call is shown."""
_MOST: Final = 4
"""How many running calls are shown at most, so that all fits one screen."""
_LITTLE: Final = 0.1
"""Less free room than this part of the disk is a warning."""

_EXAMPLES = """\
examples:
  graphdriver status                              the only plugin of this machine
  graphdriver status py-overlay2
  graphdriver status --socket /run/gd/mine.sock   a snapshotter, or a plugin by its socket
  graphdriver status --home /var/lib/docker/py-overlay2   also if no process serves it
  graphdriver status py-overlay2 --json | jq .disk.free
"""

_NOTES = """\
A plugin answers even if all calls of the daemon are stuck. A plugin of another author is asked with
Docker's call Status.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="PLUGIN", help="the same as --plugin PLUGIN")
    target.configure(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.cli import screen

    if arguments.name is not None:
        arguments.plugin = arguments.name
    with target.target_of(arguments) as found:
        if found.is_foreign:
            return _foreign(found, as_json=arguments.json)
        seen = _look(found)
    if arguments.json:
        screen.print_json(_as_json(seen))
    else:
        page = screen.page()
        _draw(page, seen)
        screen.show(page)
    if found.trouble:
        raise UnreachableError(found.trouble, hint="look into its log, and start it again")
    return DAMAGED if seen.lost or seen.damaged else OK


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of a plugin and its home."""

    target: Target
    status: Status
    running: list[RunningCall]
    damaged: list[LayerNode]
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    repairs: int = 0


def _look(found: Target) -> _Seen:
    from graphdriver.cli.answers import read_calls

    running = read_calls(found.ask("calls")) if found.ask else []
    if not found.home:
        assert found.status
        return _Seen(found, found.status, running, [])
    layers = found.layers()
    if found.status:  # it tells what is in the notes for others
        return _Seen(found, found.status, running, layers.damaged, layers.lost, (), layers.repairs)
    status = _status_of(layers)
    return _Seen(found, status, running, layers.damaged, layers.lost, layers.notes, layers.repairs)


def _status_of(layers: HomeLayers) -> Status:
    """Return what is known of a home that no plugin tells of."""
    from graphdriver.cli.answers import Status, disk_of

    nodes = layers.tree.layers.values()
    return Status(
        engine=layers.identity.engine if layers.identity else None,
        driver=layers.identity.driver if layers.identity else None,
        home=layers.home,
        layers=len(nodes),
        unfinished=sum(node.unfinished for node in nodes),
        mounts=sum(bool(node.mounted) for node in nodes),
        disk=disk_of(layers.home),
    )


# --- JSON -----------------------------------------------------------------------------------------


def _as_json(seen: _Seen) -> dict[str, object]:
    status = seen.status
    return {
        "name": seen.target.name,
        "address": seen.target.address or None,
        "serving": seen.target.status is not None,
        "trouble": seen.target.trouble or None,
        **dataclasses.asdict(status),
        "started": moment(status.started),
        "last_sync": moment(status.last_sync),
        "calls": {
            one.name: {
                "count": one.count,
                "errors": dict(one.errors),
                "in_flight": one.in_flight,
                "p50_ms": milliseconds(one.p50),
                "p99_ms": milliseconds(one.p99),
            }
            for one in status.calls
        },
        "damaged": [{"id": node.id, "damage": node.damage} for node in seen.damaged],
        "repairs": seen.repairs,
        "notes": [*seen.lost, *seen.notes],
    }


# --- one screen -----------------------------------------------------------------------------------


def _draw(page: Page, seen: _Seen) -> None:
    page.line(Toned(seen.target.name, Tone.HEADING), "  ", _verdict(seen))
    for text, tone in _warnings(seen):
        page.line(Toned(f"! {text}", tone))
    page.line()
    page.pairs(list(_facts(seen)))
    if seen.status.calls:
        page.line()
        _draw_calls(page, seen.status.calls)


def _verdict(seen: _Seen) -> str:
    if seen.target.trouble:
        return Toned(f"DOES NOT ANSWER: {seen.target.trouble}", Tone.BAD)
    if seen.target.status is None:
        return Toned("no process serves it", Tone.WARNING)
    if not seen.status.ready:
        why = f": {seen.status.not_ready}" if seen.status.not_ready else ""
        return Toned(f"runs, and is not ready{why}", Tone.WARNING)
    since = "" if seen.status.started is None else f", {period(time.time() - seen.status.started)}"
    return Toned(f"serving{since}", Tone.GOOD)


def _warnings(seen: _Seen) -> Iterator[tuple[str, Tone]]:
    """Yield what an operator must know first, the worst first."""
    for text in damage_texts(seen.lost, seen.damaged, seen.target.home):
        yield text, Tone.BAD
    long = [one for one in seen.running if one.seconds >= _LONG or one.waits_for]
    long.sort(key=lambda one: -one.seconds)
    for call in long[:_MOST]:
        yield running_text(call), Tone.WARNING
    if len(long) > _MOST:
        yield f"{several(len(long), 'call')} run long or wait: graphdriver top", Tone.WARNING
    yield from ((text, Tone.WARNING) for text in _lacks(seen.status.disk))
    if count := seen.status.unfinished:
        yield (
            f"{several(count, 'layer')} incomplete: the transfer runs, or broke off; then only"
            " Remove takes the layer",
            Tone.WARNING,
        )
    if seen.repairs:
        yield repairs_text(seen.repairs, seen.target.home), Tone.WARNING
    for note in first_of(seen.notes):
        yield note, Tone.WARNING


def _lacks(disk: Disk | None) -> Iterator[str]:
    if disk is None:
        return
    if disk.free < disk.size * _LITTLE:
        yield f"the disk is nearly full: {size(disk.free)} ({part(disk.free, disk.size)}) free"
    if disk.inodes_free < disk.inodes * _LITTLE:
        free = part(disk.inodes_free, disk.inodes)
        yield f"the filesystem is short of inodes: {number(disk.inodes_free)} ({free}) free"


def _facts(seen: _Seen) -> Iterator[tuple[str, str]]:
    status = seen.status
    engine = f" for {status.engine}" if status.engine else ""
    version = f", graphdriver {status.version}" if status.version else ""
    yield "driver", f"{status.driver or 'unknown'}{engine}{version}"
    yield "home", status.home or UNKNOWN
    if seen.target.status is not None:
        started = f", since {clock(status.started)}" if status.started is not None else ""
        yield "process", f"{status.pid} on {seen.target.address}{started}"
    options = [*status.options, *(["sync=none"] if status.sync == "none" else [])]
    if options:
        yield "options", " ".join(options)
    counts = [number(status.layers)]
    counts += [f"{number(status.mounts)} mounted"] if status.mounts is not None else []
    counts += [several(status.references, "reference")] if status.references is not None else []
    counts += [f"{number(status.unfinished)} unfinished"] if status.unfinished else []
    yield "layers", ", ".join(counts)
    if disk := status.disk:
        inodes = f"; inodes {part(disk.inodes_free, disk.inodes)} free" if disk.inodes else ""
        free = part(disk.free, disk.size)
        yield "disk", f"{size(disk.free)} of {size(disk.size)} ({free}) free{inodes}"
    if status.bytes_in is not None:
        synced = f"; last sync {ago(status.last_sync, time.time())}" if status.last_sync else ""
        yield "data", f"{size(status.bytes_in)} in, {size(status.bytes_out)} out{synced}"
    if status.driver_status:
        yield "status", ", ".join(f"{key}: {value}" for key, value in status.driver_status)


def _draw_calls(page: Page, calls: Sequence[CallCounts]) -> None:
    """Draw the calls that fit the screen, the ones that matter most first."""
    ordered = sorted(calls, key=lambda one: (-one.in_flight, -sum(one.errors.values()), -one.count))
    shown = page.fitting(ordered, spare=2)
    page.table(
        [
            Column("CALL"),
            Column("COUNT", right=True),
            Column("RUNNING", right=True),
            Column("P50", right=True),
            Column("P99", right=True),
            Column("ERRORS", shrinks=True),
        ],
        [
            [
                one.name,
                number(one.count),
                Toned(number(one.in_flight), Tone.STRONG) if one.in_flight else UNKNOWN,
                period(one.p50),
                period(one.p99),
                Toned(_errors(one.errors), Tone.WARNING),
            ]
            for one in shown
        ],
    )
    if more := len(ordered) - len(shown):
        page.line(Toned(f"and {several(more, 'kind')} of calls more: --json shows all", Tone.QUIET))


def _errors(errors: Mapping[str, int]) -> str:
    counted = sorted(errors.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{number(count)} {kind}" for kind, count in counted)


# --- a plugin of another author -------------------------------------------------------------------


def _foreign(found: Target, *, as_json: bool) -> int:
    from graphdriver.cli import screen

    assert found.client
    implements = found.client.activate()
    try:
        pairs, problem = list(found.client.status()), ""
    except (RemoteError, BadAnswerError) as error:
        pairs, problem = [], str(error)
    if as_json:
        screen.print_json(
            {
                "name": found.name,
                "address": found.address,
                "serving": None,
                "trouble": problem or None,
                "implements": list(implements),
                "driver_status": [list(pair) for pair in pairs],
            }
        )
        return FAILED if problem else OK
    page = screen.page()
    page.line(Toned(found.name, Tone.HEADING), "  ", Toned("answers Docker's calls", Tone.GOOD))
    if problem:
        page.line(Toned(f"! Status failed: {problem}", Tone.BAD))
    text = (
        "it answers no questions (another author's plugin, or an older one): this is its own Status"
    )
    page.line(Toned(text, Tone.QUIET))
    page.line()
    page.pairs([("socket", found.address), ("implements", ", ".join(implements)), *pairs])
    screen.show(page)
    return FAILED if problem else OK


COMMAND: Final = Command(
    name="status",
    summary="show what a plugin serves, and whether it is well",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
