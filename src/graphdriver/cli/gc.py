"""``graphdriver gc``: find the layers that no engine knows any more, and remove them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import OK, WARNED, Command
from graphdriver.cli.quantities import UNKNOWN, several, size
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import GraphDriverError, InUseError, MalformedRequestError

if TYPE_CHECKING:
    from graphdriver.care.garbage import Garbage
    from graphdriver.serving.home import Identity

_EXAMPLES = """\
examples:
  graphdriver gc /var/lib/docker/py-overlay2             list what would be removed
  graphdriver gc --remove /var/lib/docker/py-overlay2    remove it
  graphdriver gc --json /var/lib/containerd/io.containerd.snapshotter.v1.mine | jq '.layers[].size'
"""

_NOTES = """\
Stop the daemon and the plugin first, for the list too: what a daemon is just making has no record yet.
Nothing is removed if a record that could name a layer cannot be read, or is of an unknown version.
A layer that is mounted is left. An interrupted removal is continued by the next one.

The code is 13 if there are such layers, and they were not removed.
"""

_CONTAINERD: Final = "/var/lib/containerd"
Remove = Callable[[str], None]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "home",
        metavar="HOME",
        help="the directory that a plugin or a snapshotter serves, such as DATA-ROOT/PLUGIN",
    )
    parser.add_argument("--remove", action="store_true", help="remove what is found")
    parser.add_argument(
        "--containerd-root",
        metavar="DIR",
        help="the root directory of the containerd that uses the snapshotter (default: the directory"
        f" above HOME if it is one, else {_CONTAINERD})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.care import fsck
    from graphdriver.cli import screen
    from graphdriver.serving import process
    from graphdriver.serving.home import identity_of, servers_of

    process.expect_root()
    home = os.path.realpath(arguments.home)
    identity = identity_of(home)
    if identity is None:
        raise MalformedRequestError(
            f"{home} is not a home",
            hint="name the directory that the plugin serves: DATA-ROOT/PLUGIN, or a snapshotter's root",
        )
    containerd = arguments.containerd_root or _root_above(home)
    with _engine_at_rest(identity, home, containerd):
        if servers := servers_of(home):
            raise InUseError(f"{home} is served by {' and '.join(servers)}", hint="stop it first")
        if identity.engine == "docker":
            total, garbage = _unrecorded_layers(home, identity.driver)
        else:
            total, garbage = _unnamed_snapshots(home, containerd)
        failures: dict[str, str] = {}
        if arguments.remove and garbage:
            with (
                _remover(identity, home) as remove,
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


def _root_above(home: str) -> str:
    from graphdriver.care.engine_locks import CONTAINERD

    above = os.path.dirname(home)
    return above if os.path.exists(os.path.join(above, CONTAINERD[0])) else _CONTAINERD


def _engine_at_rest(
    identity: Identity, home: str, containerd: str
) -> contextlib.AbstractContextManager[None]:
    from graphdriver.care.docker_records import place_of
    from graphdriver.care.engine_locks import CONTAINERD, DOCKER, at_rest

    if identity.engine == "docker":
        return at_rest(place_of(home)[0], DOCKER)
    return at_rest(containerd, CONTAINERD)


def _unrecorded_layers(home: str, driver: str) -> tuple[int, list[Garbage]]:
    """Return how many layers there are, and those that are garbage."""
    from graphdriver.care.docker_records import place_of, read_docker
    from graphdriver.care.garbage import layers_in, mounted_in, unrecorded

    layers = layers_in(home, driver)
    return len(layers), unrecorded(layers, read_docker(*place_of(home)), mounted_in(home))


def _unnamed_snapshots(home: str, containerd: str) -> tuple[int, list[Garbage]]:
    """Return how many snapshots there are, and those that are garbage."""
    from graphdriver.care.containerd_names import read_names
    from graphdriver.care.containerd_records import read_snapshots
    from graphdriver.care.engine_locks import CONTAINERD
    from graphdriver.care.garbage import unnamed
    from graphdriver.care.owners import UnreadError

    database = os.path.join(containerd, CONTAINERD[0])
    try:
        rows, _ = read_snapshots(home)
        names = read_names(database)
    except UnreadError as error:
        raise GraphDriverError(f"{error}, so nothing is removed", hint="repair it first") from error
    if rows and not names & {row.key for row in rows}:
        raise GraphDriverError(
            f"{database} names no snapshot of {home}: it is another containerd's",
            hint="name its root with --containerd-root",
        )
    return len(rows), unnamed(rows, names)


@contextlib.contextmanager
def _remover(identity: Identity, home: str) -> Iterator[Remove]:
    """Take up a home; yield the function that removes a layer, or a snapshot, of it."""
    from graphdriver.care.local_driver import taken_up

    if identity.engine == "docker":
        with taken_up(home) as served:
            yield served.remove
        return
    from graphdriver.containerd.snapshots import Snapshots
    from graphdriver.drivers.loading import make

    with contextlib.closing(Snapshots(make(identity.driver), home)) as snapshots:
        yield snapshots.remove


def _try(remove: Remove, id: str, failures: dict[str, str]) -> None:
    try:
        remove(id)
    except (GraphDriverError, OSError) as error:
        failures[id] = str(error)


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
    summary="find layers that no engine knows any more, and remove them",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
    notes=_NOTES,
)
