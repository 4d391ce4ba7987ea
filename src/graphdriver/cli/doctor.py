"""``graphdriver doctor``: check the machine for what makes a plugin fail, now or later."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import DAMAGED, OK, WARNED, Command
from graphdriver.cli.known_homes import DATA_ROOT, Remembered, daemon_of, homes_in, remembered
from graphdriver.cli.quantities import several
from graphdriver.errors import GraphDriverError, MalformedRequestError

if TYPE_CHECKING:
    from graphdriver.care.doctor.containerd import ContainerdFacts
    from graphdriver.care.doctor.examination import Found, KnownHome

_EXAMPLES = """\
examples:
  graphdriver doctor                              the machine, and the homes in /var/lib/docker
  graphdriver doctor --plugin py-overlay2
  graphdriver doctor --home /var/lib/containerd/io.containerd.snapshotter.v1.mine
  graphdriver doctor --json | jq -r '.findings[] | select(.severity != "note") | .advice'
"""

_NOTES = """\
Nothing is changed. The exit code is 0 if all is well, 13 if something will go wrong later, 14 if
something does not work.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--data-root", metavar="DIR", help=f"look at all homes in it (default: {DATA_ROOT})"
    )
    where.add_argument("--home", metavar="DIR", help="look at this home")
    where.add_argument("--plugin", metavar="NAME", help="look at the home that a plugin serves")
    parser.add_argument(
        "--daemon-socket",
        metavar="PATH",
        help="where the Docker daemon listens (default: /run/docker.sock)",
    )
    parser.add_argument(
        "--containerd-socket",
        metavar="PATH",
        help="where containerd listens (default: /run/containerd/containerd.sock)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.care.doctor.daemon_api import SOCKET
    from graphdriver.care.doctor.examination import examine, worst
    from graphdriver.care.findings import Severity
    from graphdriver.cli.places import BUILT_IN
    from graphdriver.cli.plugin_places import read_places

    homes = _known_homes(arguments)
    daemon_socket = arguments.daemon_socket or SOCKET
    containerd = functools.partial(_containerd, arguments.containerd_socket)
    found = list(examine(homes, read_places, BUILT_IN, containerd, daemon_socket))
    if arguments.json:
        from graphdriver.cli import screen

        screen.print_json(
            {"homes": [one.home for one in homes], "findings": [_as_json(one) for one in found]}
        )
    else:
        _show(found)
    codes = {Severity.NOTE: OK, Severity.WARNING: WARNED, Severity.DAMAGE: DAMAGED}
    return codes[worst(found)]


def _containerd(path: str | None) -> ContainerdFacts:
    from graphdriver.care.doctor.containerd import ContainerdFacts

    try:
        from graphdriver.containerd.daemon_client import SOCKET, ask_containerd
    except ImportError:
        return ContainerdFacts(path or "", "grpcio is not installed: containerd was not asked")
    path = os.path.abspath(path or SOCKET)
    if not os.path.exists(path):
        return ContainerdFacts(path, "no containerd listens there")
    try:
        version, snapshotters = ask_containerd(path)
    except GraphDriverError as error:
        return ContainerdFacts(path, str(error))
    return ContainerdFacts(path, "", version, snapshotters)


# --- which homes ----------------------------------------------------------------------------------


def _known_homes(arguments: argparse.Namespace) -> list[KnownHome]:
    known = list(remembered())
    if arguments.plugin is not None:
        return [_of_plugin(arguments.plugin, known)]
    if arguments.home is not None:
        home = os.path.abspath(arguments.home)
        if not os.path.isdir(home):
            raise MalformedRequestError(f"--home {arguments.home} is not a directory")
        return [_known_home(home, known)]
    root = os.path.abspath(arguments.data_root or DATA_ROOT)
    if arguments.data_root and not os.path.isdir(root):
        raise MalformedRequestError(f"--data-root {arguments.data_root} is not a directory")
    return [_known_home(home, known) for home in homes_in(root)]


def _known_home(home: str, known: Sequence[Remembered]) -> KnownHome:
    """Return a home, with the plugin that serves it and the daemon that uses it, if they are known."""
    from graphdriver.care.doctor.examination import KnownHome

    real = os.path.realpath(home)
    for state, daemon in known:
        if os.path.realpath(daemon.init.home) == real:
            plugin = state.removeprefix("name=") if "%" not in state else ""
            peer = daemon.peer.pid if daemon.peer and daemon.peer.is_alive() else None
            return KnownHome(home, plugin, peer)
    return KnownHome(home)


def _of_plugin(name: str, known: Sequence[Remembered]) -> KnownHome:
    if daemon := daemon_of(name, known):
        return dataclasses.replace(_known_home(daemon.init.home, known), plugin=name)
    raise MalformedRequestError(
        f"no daemon has sent Init to the plugin {name}, so its home is unknown",
        hint="name its home with --home",
    )


# --- output ---------------------------------------------------------------------------------------


def _show(found: Sequence[Found]) -> None:
    from graphdriver.care.findings import Severity
    from graphdriver.cli import screen
    from graphdriver.cli.table import Tone, Toned

    tones = {Severity.NOTE: Tone.QUIET, Severity.WARNING: Tone.WARNING, Severity.DAMAGE: Tone.BAD}
    count = dict.fromkeys(Severity, 0)
    shown = screen.Page()  # of any width: what is to be done can be copied, and is never cut
    for one in found:
        finding = one.finding
        count[finding.severity] += 1
        name = Toned(f"{finding.severity.name.lower():<9}", tones[finding.severity])
        about = f"{finding.subject}: " if finding.subject else ""
        shown.line(name, f"{one.check:<13}{about}{finding.text}")
        if finding.advice:
            shown.line(f"{'':<22}to do: {finding.advice}")
    damage, warnings = count[Severity.DAMAGE], count[Severity.WARNING]
    parts = [several(damage, "damage") if damage else ""]
    parts.append(several(warnings, "warning") if warnings else "")
    shown.line(", ".join(filter(None, parts)) or Toned("nothing is wrong", Tone.GOOD))
    screen.show(shown)


def _as_json(one: Found) -> dict[str, object]:
    finding = one.finding
    return {
        "severity": finding.severity.name.lower(),
        "check": one.check,
        "code": finding.code,
        "subject": finding.subject,
        "text": finding.text,
        "advice": finding.advice,
    }


COMMAND: Final = Command(
    name="doctor",
    summary="check the machine for what makes a plugin fail, now or later",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
    notes=_NOTES,
)
