"""``graphdriver top``: the running calls of a plugin, refreshed in place."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graphdriver.cli import target
from graphdriver.cli.command import OK, Command
from graphdriver.cli.layer_words import short
from graphdriver.cli.quantities import UNKNOWN, number, period, rate, several, size
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import GraphDriverError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphdriver.cli.answers import RunningCall, Status
    from graphdriver.cli.screen import Page
    from graphdriver.cli.target import Target

_PAUSE: Final = 1.0
"""How long a picture stays, in seconds."""
_LONG: Final = 30.0
"""From how many seconds on a call is marked as long."""

_EXAMPLES = """\
examples:
  graphdriver top                                the only plugin of this machine
  graphdriver top --plugin py-overlay2
  graphdriver top --socket /run/gd/mine.sock     a snapshotter, or a plugin by its socket
  graphdriver top --json                         one picture, for programs
"""

_NOTES = """\
MOVED counts the bytes of a layer's tar that came in (ApplyDiff) or went out (Diff). WAITS FOR is the
layer that another call holds. On a terminal the picture is refreshed each second until Ctrl-C;
otherwise it is printed once.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument("--json", action="store_true", help="print JSON once, for programs")


@dataclass(frozen=True, slots=True)
class _Picture:
    """What a plugin did at one moment, in seconds of the monotonic clock."""

    at: float
    status: Status
    running: list[RunningCall]


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.cli import screen

    with target.target_of(arguments) as found:
        if found.is_foreign:
            raise target.no_questions(found)
        if found.ask is None:
            raise UnreachableError(
                found.trouble or f"no process serves {found.home}", hint="no calls run then"
            )
        if arguments.json:
            screen.print_json(_as_json(_take(found.ask)))
        elif sys.stdout.isatty():
            _refresh(found, found.ask)
        else:
            page = screen.page()
            _draw(page, found, None, _take(found.ask))
            screen.show(page)
    return OK


def _take(ask: Callable[[str], object]) -> _Picture:
    from graphdriver.cli.answers import read_calls, read_status

    status = read_status(ask("status"))
    return _Picture(time.monotonic(), status, read_calls(ask("calls")))


def _refresh(found: Target, ask: Callable[[str], object]) -> None:
    """Show one picture after the other until Ctrl-C; go on while the plugin is restarted."""
    from graphdriver.cli import screen

    # So that the terminal is as it was before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    before = None
    try:
        with screen.refreshed() as show:
            while True:
                page = screen.page()
                try:
                    now = _take(ask)
                except GraphDriverError as error:
                    page.line(Toned(found.name, Tone.HEADING), "  ", Toned(str(error), Tone.BAD))
                    before = None
                else:
                    _draw(page, found, before, now)
                    before = now
                show(page)
                time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return  # the way to end it


def _as_json(picture: _Picture) -> dict[str, object]:
    return {
        "pid": picture.status.pid,
        "bytes_in": picture.status.bytes_in,
        "bytes_out": picture.status.bytes_out,
        "running": [
            {
                "call": one.call,
                "layer": one.layer,
                "snapshot": one.snapshot,
                "parent": one.parent,
                "seconds": one.seconds,
                "bytes": one.bytes,
                "bytes_per_second": round(_rate(None, picture, one)),
                "waits_for": one.waits_for,
                "held_by": one.held_by,
                "peer": one.peer,
            }
            for one in picture.running
        ],
    }


def _draw(page: Page, found: Target, before: _Picture | None, now: _Picture) -> None:
    status = now.status
    up = "" if status.started is None else f" for {period(time.time() - status.started)}"
    held = f"{number(status.mounts)} mounted, {several(status.references or 0, 'reference')}"
    page.line(Toned(found.name, Tone.HEADING), f"  {status.driver or ''}, serving{up}, {held}")
    page.line(Toned(_summary(before, now), Tone.QUIET))
    page.line()
    running = sorted(now.running, key=lambda one: -one.seconds)
    shown = page.fitting(running, spare=3)
    if shown:
        page.table(
            [
                Column("CALL"),
                Column("LAYER", shrinks=True),
                Column("FOR", right=True),
                Column("MOVED", right=True),
                Column("RATE", right=True),
                Column("WAITS FOR", shrinks=True),
                Column("BY", shrinks=True),
            ],
            [
                [
                    one.call,
                    short(one.subject),
                    Toned(period(one.seconds), Tone.WARNING if one.seconds > _LONG else Tone.PLAIN),
                    size(one.bytes) if one.bytes else UNKNOWN,
                    rate(_rate(before, now, one)) if one.bytes else UNKNOWN,
                    Toned(_waits(one), Tone.WARNING),
                    one.peer or UNKNOWN,
                ]
                for one in shown
            ],
        )
        if len(shown) < len(running):
            page.line(Toned(f"and {several(len(running) - len(shown), 'call')} more", Tone.QUIET))
    else:
        page.line("no call runs")


def _summary(before: _Picture | None, now: _Picture) -> str:
    status = now.status
    parts = [f"{several(len(now.running), 'call')} running"]
    if before and before.status.pid == status.pid and now.at > before.at:
        passed = now.at - before.at
        ended = sum(one.count for one in status.calls) - sum(
            one.count for one in before.status.calls
        )
        parts.append(f"{max(ended, 0) / passed:.0f} ended per second")
        parts.append(f"in {rate(_grown(before.status.bytes_in, status.bytes_in) / passed)}")
        parts.append(f"out {rate(_grown(before.status.bytes_out, status.bytes_out) / passed)}")
    else:
        parts.append(f"in {size(status.bytes_in)}, out {size(status.bytes_out)} since its start")
    return ", ".join(parts)


def _grown(before: int | None, now: int | None) -> int:
    return max((now or 0) - (before or 0), 0)


def _rate(before: _Picture | None, now: _Picture, call: RunningCall) -> float:
    """Return bytes per second since the last picture; without one, since the call's beginning."""
    for earlier in before.running if before else ():
        same = (earlier.call, earlier.subject, earlier.peer) == (call.call, call.subject, call.peer)
        if before and same and earlier.seconds <= call.seconds and now.at > before.at:
            return _grown(earlier.bytes, call.bytes) / (now.at - before.at)
    return call.bytes / call.seconds if call.seconds else 0.0


def _waits(call: RunningCall) -> str:
    if not call.waits_for:
        return ""
    if not call.held_by:
        return short(call.waits_for)
    name, _, subject = call.held_by.partition(" ")
    if subject == call.waits_for:
        return f"{name} {short(subject)}"
    return f"{short(call.waits_for)}: {name} {short(subject)}"


COMMAND: Final = Command(
    name="top",
    summary="show the running calls of a plugin",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
