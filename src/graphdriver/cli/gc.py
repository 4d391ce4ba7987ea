"""``graphdriver gc``: find the layers that no engine knows any more, and remove them."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final

from graphdriver.cli import target
from graphdriver.cli.command import OK, WARNED, Command
from graphdriver.cli.quantities import UNKNOWN, several, size
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import GraphDriverError, InUseError

if TYPE_CHECKING:
    from graphdriver.care.garbage import Garbage
    from graphdriver.cli.collectable import Remove
    from graphdriver.serving.home import Identity

_EXAMPLES = """\
examples:
  graphdriver gc                                         list what would be removed
  graphdriver gc --remove                                remove it
  graphdriver gc --remove /var/lib/docker/py-overlay2    if the machine has several homes
  graphdriver gc --json /var/lib/containerd/io.containerd.snapshotter.v1.mine | jq '.layers[].size'
"""

_NOTES = """\
Stop the daemon and the plugin first, for the list too: what a daemon is just making has no record yet.
Nothing is removed if a record that could name a layer cannot be read, or is of an unknown version.
A layer that is mounted is left. An interrupted removal is continued by the next one.

The code is 13 if there are such layers, and they were not removed.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    target.configure_home(parser)
    parser.add_argument("--remove", action="store_true", help="remove what is found")
    parser.add_argument(
        "--containerd-root",
        metavar="DIR",
        default="",
        help="the root directory of the containerd that uses the snapshotter (default: the directory"
        " above HOME if it is one, else /var/lib/containerd)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.care import fsck
    from graphdriver.cli import screen
    from graphdriver.cli.collectable import collectable
    from graphdriver.serving import process
    from graphdriver.serving.home import identity_of, servers_of

    process.expect_root()
    home = os.path.realpath(target.home_of(arguments))
    identity = identity_of(home)
    if identity is None:
        raise fsck.not_a_home(home, "it has no record of its engine and driver")
    one_home = collectable(home, identity, arguments.containerd_root)
    with one_home.at_rest():
        if servers := servers_of(home):
            raise InUseError(f"{home} is served by {' and '.join(servers)}", hint="stop it first")
        total, garbage = one_home.find()
        failures: dict[str, str] = {}
        if arguments.remove and garbage:
            with (
                one_home.remover() as remove,
                screen.progress("removing layers", len(garbage)) as done,
            ):
                for one in garbage:
                    _try(remove, one.id, failures)
                    done(1)
            fsck.delete_removed(fsck.CheckedHome(home, identity))
    if arguments.json:
        screen.print_json(_as_json(home, identity, garbage, failures, removed=arguments.remove))
    else:
        _show(home, total, garbage, failures, removed=arguments.remove)
    return WARNED if failures or (garbage and not arguments.remove) else OK


def _try(remove: Remove, id: str, failures: dict[str, str]) -> None:
    from graphdriver.drivers.loading import describe_exception

    try:
        remove(id)
    except (GraphDriverError, OSError) as error:
        failures[id] = str(error)
    except (Exception, SystemExit) as error:  # somebody else's driver may raise anything
        failures[id] = describe_exception(error)


# --- the output -----------------------------------------------------------------------------------


def _show(
    home: str, total: int, garbage: list[Garbage], failures: dict[str, str], *, removed: bool
) -> None:
    from graphdriver.cli import screen

    page = screen.page()
    if garbage and not removed:
        columns = (
            Column("LAYER", shrinks=True),
            Column("PARENT", shrinks=True),
            Column("SIZE", right=True),
        )
        page.table(columns, ((one.id, _name(one.parent), size(one.size)) for one in garbage))
    for id, failure in failures.items():
        page.line(Toned(f"{id} was not removed: {failure}", Tone.BAD))
    freed = size(sum(one.size or 0 for one in garbage if one.id not in failures))
    if not garbage:
        verdict = "each has a record"
    elif removed:
        verdict = f"{len(garbage) - len(failures)} without a record removed, {freed}"
    else:
        verdict = f"{len(garbage)} without a record, {freed}; --remove: remove them"
    page.line(f"{home}: {several(total, 'layer')}, {verdict}")
    screen.show(page)


def _name(parent: str | None) -> str:
    return UNKNOWN if parent is None else parent


def _as_json(
    home: str,
    identity: Identity,
    garbage: list[Garbage],
    failures: dict[str, str],
    *,
    removed: bool,
) -> dict[str, object]:
    return {
        "home": home,
        "engine": identity.engine,
        "driver": identity.driver,
        "layers": [
            {
                "id": one.id,
                "parent": one.parent,
                "size": one.size,
                "removed": removed and one.id not in failures,
                "failure": failures.get(one.id, ""),
            }
            for one in garbage
        ],
    }


COMMAND: Final = Command(
    name="gc",
    summary="find and remove layers that no engine knows",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
    notes=_NOTES,
)
