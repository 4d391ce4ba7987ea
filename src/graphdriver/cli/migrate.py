"""``graphdriver migrate``: move all images and containers of a daemon to another storage driver."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import OK, Command
from graphdriver.cli.quantities import period, several, size
from graphdriver.cli.table import Column
from graphdriver.errors import GraphDriverError, MalformedRequestError, UnsupportedError

if TYPE_CHECKING:
    from graphdriver.care.migration.plan import Plan, Side

_EXAMPLES = """\
examples:
  graphdriver migrate /var/lib/docker --from overlay2 --to py-overlay2 --dry-run   show the plan
  graphdriver migrate /var/lib/docker --from overlay2 --to py-overlay2             move in
  graphdriver migrate /var/lib/docker --from py-overlay2 --to overlay2             move out again
  graphdriver migrate /var/lib/docker --from overlay2 --to py-erofs                to another driver
  graphdriver migrate /var/lib/docker --from vfs --to mine=vfs --keep              leave the old layers
"""

_NOTES = """\
Stop the daemon and the plugin first. Images, tags, digests, containers with all that they wrote, and
the build cache are the same afterwards; volumes are not touched.
An interrupted migration is continued by the same command. Until then no daemon starts on a side that
is not complete.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data_root",
        metavar="DATA-ROOT",
        help="the daemon's directory, /var/lib/docker; with remapped IDs the one named UID.GID in it",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DRIVER",
        required=True,
        help="the storage driver that `docker info` shows; NAME=DRIVER for a plugin with another name"
        " than py-DRIVER",
    )
    parser.add_argument(
        "--to", dest="target", metavar="DRIVER", required=True, help="the new one, likewise"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the old layers and images where they are"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan, and do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.care.engine_locks import DOCKER, at_rest
    from graphdriver.care.migration.homes import keep_mounts_private
    from graphdriver.care.migration.migration import migrate
    from graphdriver.care.migration.planning import expect_data_root, make_plan
    from graphdriver.cli import screen
    from graphdriver.serving import process

    process.expect_root()
    os.umask(0)
    keep_mounts_private()
    data_root = os.path.realpath(arguments.data_root)
    expect_data_root(data_root)
    with at_rest(data_root, DOCKER):
        source, target = _sides(data_root, arguments.source, arguments.target, arguments.keep)
        with _looking() as looked:
            plan = make_plan(source, target, looked, keeps=arguments.keep)
        _show(plan)
        if plan.refused:
            raise UnsupportedError(
                f"{several(len(plan.refused), 'layer')} cannot be moved, so nothing is",
                hint="see the list above",
            )
        if arguments.dry_run or not (arguments.yes or _is_wanted(plan)):
            return OK
        total = sum(layer.size or 0 for layer in plan.layers)
        with screen.progress("moving bytes", total) as done:
            migrate(plan, lambda layer: done(layer.size or 0))
    print(f"moved to {target.home}; start the daemon with -s {target.name}")
    return OK


# --- the sides ------------------------------------------------------------------------------------


def _sides(data_root: str, source: str, target: str, keeps: bool) -> tuple[Side, Side]:
    """Return the two sides that the arguments name.

    Raises:
        MalformedRequestError: an argument is wrong, or another migration was interrupted here.
    """
    from graphdriver.care.migration.workplace import Workplace

    if journal := Workplace(data_root).journal():
        begun = (journal.source, journal.target)
        names = tuple(one.partition("=")[0] for one in (source, target))
        if names != (begun[0].name, begun[1].name) or keeps != journal.keeps:
            raise MalformedRequestError(
                f"a migration of {data_root} from {begun[0].name} to {begun[1].name} was interrupted",
                hint=f"finish it first: graphdriver migrate {data_root} --from {begun[0].name}"
                f" --to {begun[1].name}{' --keep' if journal.keeps else ''}",
            )
        return begun
    return _side(data_root, source), _side(data_root, target)


def _side(data_root: str, text: str) -> Side:
    from graphdriver.care.migration.plan import Side
    from graphdriver.cli.places import BUILT_IN
    from graphdriver.serving.home import identity_of

    name, _, driver = text.partition("=")
    if not _NAME.fullmatch(name):
        raise MalformedRequestError(
            f"{name!r} is not the name of a storage driver", hint="`docker info` shows it"
        )
    if name in BUILT_IN:
        if driver not in ("", name):
            raise MalformedRequestError(
                f"{name} is Docker's own driver, not a plugin with the driver {driver}",
                hint=f"give {name} alone",
            )
        return Side(data_root, name, name, is_built_in=True)
    identity = identity_of(os.path.join(data_root, name))
    known = identity.driver if identity else _driver_in(name)
    if driver and identity and driver != known:
        raise MalformedRequestError(
            f"the plugin {name} has the driver {known} by the record of its home, not {driver}",
            hint=f"give {name} alone",
        )
    if not (driver or known):
        raise MalformedRequestError(
            f"the name {name} does not tell which driver the plugin has", hint=f"give {name}=DRIVER"
        )
    return Side(data_root, name, driver or known, is_built_in=False)


def _driver_in(name: str) -> str:
    """Return the installed driver that a plugin's name ends with; ``""``: no driver is."""
    from importlib.metadata import entry_points

    from graphdriver.drivers.loading import ENTRY_POINTS

    names = sorted(entry_points(group=ENTRY_POINTS).names, key=len, reverse=True)
    found = (one for one in names if re.search(rf"(^|[-_.]){re.escape(one)}$", name))
    return next(found, "")


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


# --- the plan on the screen -----------------------------------------------------------------------


@contextlib.contextmanager
def _looking() -> Iterator[Callable[[int, int], None]]:
    """Show how many layers were looked at, for the length of a ``with`` block."""
    from graphdriver.cli import screen

    with contextlib.ExitStack() as held:
        advance: list[Callable[[int], None]] = []

        def looked(done: int, total: int) -> None:
            if not advance:
                advance.append(held.enter_context(screen.progress("looking at layers", total)))
            advance[0](1)

        yield looked


def _show(plan: Plan) -> None:
    from graphdriver.cli import screen

    source, target = plan.source, plan.target
    page = screen.page()
    kinds: dict[str, list[int]] = {}
    for layer in plan.layers:
        kinds.setdefault(layer.kind.value, []).append(layer.size or 0)
    pairs = [
        ("From", f"{source.home} ({_described(source)}){', which stays' if plan.keeps else ''}"),
        ("To", f"{target.home} ({_described(target)})"),
        ("Images", f"{plan.images:,}"),
        ("Containers", f"{len(plan.containers):,}"),
    ]
    pairs += [
        (f"Layers: {kind}", f"{len(sizes):,}, {size(sum(sizes))}") for kind, sizes in kinds.items()
    ]
    pairs += [
        ("Way", plan.estimate.how),
        ("Time", f"about {period(plan.estimate.seconds)}"),
        ("Space needed", size(plan.estimate.written)),
    ]
    page.pairs(pairs, whole=True)
    for note in plan.notes:
        page.line(f"note: {note}")
    if plan.refused:
        columns = (Column("LAYER", shrinks=True), Column("CANNOT BE MOVED"))
        page.table(columns, ((one.layer, one.text) for one in plan.refused))
    screen.show(page)


def _described(side: Side) -> str:
    return "Docker's own driver" if side.is_built_in else f"plugin, driver {side.driver}"


def _is_wanted(plan: Plan) -> bool:
    """Ask on the terminal.

    Raises:
        GraphDriverError: the standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise GraphDriverError("there is no terminal to ask on", hint="give --yes, or --dry-run")
    sys.stdout.flush()
    print(f"Move everything to {plan.target.name}? [yes/no] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


COMMAND: Final = Command(
    name="migrate",
    summary="move all images and containers to another storage driver",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
    notes=_NOTES,
)
