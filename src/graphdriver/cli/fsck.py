"""``graphdriver fsck``: check a home for damage, and repair it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from graphdriver.cli import target
from graphdriver.cli.command import DAMAGED, OK, WARNED, Command
from graphdriver.cli.layer_words import owner_json
from graphdriver.cli.quantities import several
from graphdriver.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphdriver.care.fsck import CheckedHome, FoundDamage
    from graphdriver.care.owners import Owner

_EXAMPLES = """\
examples:
  graphdriver fsck                                         the only home of this machine
  graphdriver fsck /var/lib/docker/py-overlay2             also while the plugin runs
  graphdriver fsck --repair /var/lib/docker/py-overlay2    stop the daemon and the plugin before
  graphdriver fsck --deep /var/lib/docker/py-overlay2      read all files, and compare them
  graphdriver fsck --json /var/lib/graphdriver | jq -r '.found[].layer'
"""

_NOTES = """\
Without --repair nothing is changed. For a sound home it prints one line and exits with 0. The code is
13 if all can be repaired, and 14 if content was lost: that is never repaired.

With --deep, layers of erofs are compared with the SHA-256 of their tars, and those of other drivers
with what the Docker daemon has recorded of them. In a snapshotter's root only erofs has such records.

An interrupted repair, or check with --deep, is continued by the next one.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    target.configure_home(parser)
    parser.add_argument(
        "--repair", action="store_true", help="repair what can be repaired; no plugin may run"
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="also read the content of all layers, and compare it with what was recorded of it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.care import fsck
    from graphdriver.care.findings import Severity
    from graphdriver.serving import process

    process.expect_root()
    home = fsck.check(target.home_of(arguments))
    if arguments.deep:
        _check_content(home)
    if arguments.repair:
        _repair(home)
    if arguments.json:
        from graphdriver.cli import screen

        screen.print_json(_as_json(home))
    else:
        for line in _lines(home):
            print(printable(line))  # a name in a damaged home may hold control characters
    if home.worst is None:
        return OK
    return DAMAGED if home.worst is Severity.DAMAGE else WARNED


def _check_content(home: CheckedHome) -> None:
    from graphdriver.care.content import ContentCheck
    from graphdriver.cli import screen

    check = ContentCheck(home)
    with screen.progress("reading layers", len(check.layers)) as done:
        for _ in check.run():
            done(1)


def _repair(home: CheckedHome) -> None:
    from graphdriver.care import fsck
    from graphdriver.cli import screen

    total = sum(1 for one in home.found if one.damage.repair)
    with screen.progress("repairing", total) as done:
        for _ in fsck.repair(home):
            done(1)


def _lines(home: CheckedHome) -> list[str]:
    lines = []
    for one in home.found:
        lines.append(f"{_verdict(one):<9} {_subject(one)}: {one.damage.text}{_outcome(one)}")
        if one.owners:
            lines.append(f"{'':<9} lost with it: {_named(one.owners)}")
    lines += [f"{'way out':<9} {way}" for way in home.ways_out]
    lines += [f"{'note':<9} {note}" for note in home.notes]
    return [*lines, _summary(home)]


def _verdict(one: FoundDamage) -> str:
    return "repaired" if one.is_repaired else one.severity.name.lower()


def _named(owners: Sequence[Owner]) -> str:
    return ", ".join(f"{one.kind.value} {one.name}" for one in owners)


def _subject(one: FoundDamage) -> str:
    return f"layer {one.damage.layer}" if one.damage.layer else "the home"


def _outcome(one: FoundDamage) -> str:
    if one.is_repaired or not one.damage.repair:
        return ""
    if one.failure:
        return f"; not repaired: {one.failure}"
    return f"; --repair: {one.damage.repair}"


def _summary(home: CheckedHome) -> str:
    parts = [f"{home.identity.driver} for {home.identity.engine}" if home.identity else "unknown"]
    if home.served_by:
        parts.append(f"served by {' and '.join(home.served_by)}")
    if home.layers is not None:
        parts.append(several(home.layers, "layer"))
    if home.unfinished:
        parts.append(f"{home.unfinished} being filled or incomplete")
    left = [one for one in home.found if not one.is_repaired]
    repaired = len(home.found) - len(left)
    damaged = sum(1 for one in left if one.damage.loses)
    if repaired:
        parts.append(f"{repaired} repaired")
    if damaged:
        parts.append(several(damaged, "damage"))
    if len(left) > damaged:
        parts.append(several(len(left) - damaged, "warning"))
    if not left:
        parts.append("sound")
    return f"{home.path}: {', '.join(parts)}"


def _as_json(home: CheckedHome) -> dict[str, object]:
    identity = home.identity
    return {
        "home": home.path,
        "engine": identity.engine if identity else None,
        "driver": identity.driver if identity else None,
        "served_by": list(home.served_by),
        "layers": home.layers,
        "unfinished": home.unfinished,
        "found": [
            {
                "severity": one.severity.name.lower(),
                "code": one.damage.code,
                "layer": one.damage.layer,
                "path": one.damage.path,
                "text": one.damage.text,
                "repair": one.damage.repair,
                "repaired": one.is_repaired,
                "failure": one.failure,
                "owners": [owner_json(owner) for owner in one.owners],
            }
            for one in home.found
        ],
        "ways_out": home.ways_out,
        "notes": home.notes,
    }


COMMAND: Final = Command(
    name="fsck",
    summary="check a home for damage, and repair it",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
    notes=_NOTES,
)
