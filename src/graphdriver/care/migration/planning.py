"""Makes the plan of a migration: looks at everything first, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from graphdriver.care.docker_records import read_docker
from graphdriver.care.layer_database import read_layer_database
from graphdriver.care.migration.layouts import expect_known, layers_of
from graphdriver.care.migration.plan import LayerKind, Plan, PlannedLayer, Refusal, Side, Way
from graphdriver.care.migration.switching import Container, containers_on
from graphdriver.care.migration.ways import transfer_by, way_over
from graphdriver.care.migration.workplace import Stage, Workplace, is_blocked
from graphdriver.care.owners import EngineRecords, KnownLayer, OwnerKind, UnreadError
from graphdriver.errors import (
    GraphDriverError,
    InUseError,
    LayerExistsError,
    LayerNotFoundError,
    MalformedRequestError,
    UnsupportedError,
)
from graphdriver.files.directories import opened
from graphdriver.homes import StoredLayer
from graphdriver.layer.overlay.unfollowed import survey
from graphdriver.layer.overlay.whiteout import TRUSTED, USER
from graphdriver.linux.mountinfo import mount_points
from graphdriver.linux.namespaces import in_user_namespace
from graphdriver.serving.home import MARKS, servers_of

_REMAPPED: Final = re.compile(r"\d+\.\d+")
_IMAGES: Final = "image"
_OVERLAYS: Final = "overlay2"
"""Docker's own driver that may have followed marks which our mounts do not follow."""
_SHOWN: Final = 3


def make_plan(
    source: Side,
    target: Side,
    looked: Callable[[int, int], None] = lambda done, total: None,
    *,
    keeps: bool,
) -> Plan:
    """Return what a migration will do. No daemon runs; nothing is written.

    Args:
        source: the old side.
        target: the new side.
        looked: called with how many layers were looked at, and how many there are.
        keeps: whether the old side's layers stay.

    Raises:
        LayerNotFoundError: there is no such side.
        LayerExistsError: the new side exists already.
        InUseError: a plugin serves a home, or a container runs on it.
        UnsupportedError: a driver is not known, a home is a mount, or there is no way between these
            sides.
        GraphDriverError: a record cannot be read.
        OSError: a home cannot be read.
    """
    place = Workplace(source.data_root)
    _expect_sides(source, target, place)
    records = read_docker(source.data_root, _recorded_under(source, target).name)
    if records.unread:
        more = f" and {len(records.unread) - _SHOWN} more" if len(records.unread) > _SHOWN else ""
        raise GraphDriverError(
            f"not all records of layers can be read, so nothing is moved:"
            f" {'; '.join(records.unread[:_SHOWN])}{more}",
            hint="repair or remove these files first",
        )
    try:
        containers = [*containers_on(source)]
    except UnreadError as error:
        raise GraphDriverError(f"{error}, so nothing is moved", hint="repair it first") from error
    _expect_idle(source, records, containers)
    journal = place.journal()
    layers: list[PlannedLayer] = []
    if journal is None or journal.stage is Stage.TRANSFERRING:
        layers = [*_layers(source, target, records, place)]
        if not is_blocked(source.home):
            layers = [*_surveyed(source, layers, looked)]
    way = journal.way if journal else way_over(source, target, layers, keeps=keeps)
    transfer = transfer_by(way, source, target)
    transferred = layers
    if way is Way.CONVERT:
        transferred = [one for one in layers if one.kind is not LayerKind.UNRECORDED]
    return Plan(
        source,
        target,
        transfer,
        keeps,
        tuple(layers),
        len(
            {
                owner.id
                for one in records.layers.values()
                for owner in one.owners
                if owner.kind is OwnerKind.IMAGE
            }
        ),
        tuple(one.id for one in containers),
        transfer.estimate(layers),
        (*_incomplete(source, transferred), *transfer.refused(layers)),
        (*_notes(source, target, layers, transferred, records, keeps=keeps),),
    )


# --- the sides ------------------------------------------------------------------------------------


def _expect_sides(source: Side, target: Side, place: Workplace) -> None:
    if source.name == target.name:
        raise MalformedRequestError(f"both sides are called {source.name}", hint="name two")
    for side in (source, target):
        expect_known(side)
    journal = place.journal()
    if journal is None:
        if not os.path.isdir(source.home):
            raise LayerNotFoundError(f"{source.home} does not exist", hint=_there(source))
        if existing := [one for one in (target.home, target.records) if os.path.lexists(one)]:
            raise LayerExistsError(
                f"the new side exists already: {' and '.join(existing)}",
                hint="if nothing in it is needed, remove it first; or name another target",
            )
    for side in (source, target):
        for path in (side.home, side.records):
            if os.path.islink(path) and not is_blocked(path):
                raise UnsupportedError(
                    f"{path} is a symlink", hint="move the directory to its place first"
                )
        _expect_no_mount(side.home)
        if not side.is_built_in and (servers := servers_of(side.home)):
            raise InUseError(
                f"{side.home} is served by {' and '.join(servers)}", hint="stop it first"
            )


def expect_data_root(path: str) -> None:
    """Check that a directory is a daemon's data root, with the records of its images.

    Raises:
        LayerNotFoundError: it is not; the text says where they may be.
    """
    if os.path.isdir(os.path.join(path, _IMAGES)):
        return
    hint = "name the data root that `docker info` shows"
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(path)):
            if _REMAPPED.fullmatch(name):
                hint = f"with remapped IDs it is {os.path.join(path, name)}"
    raise LayerNotFoundError(f"{path} is not a daemon's data root: it has no {_IMAGES}", hint=hint)


def _there(side: Side) -> str:
    """Return which sides a data root has instead of one that does not exist."""
    names = sorted(os.listdir(os.path.join(side.data_root, _IMAGES)))
    return f"the daemon has records of {', '.join(names) or 'no storage driver'}"


def _expect_no_mount(home: str) -> None:
    for mount in mount_points():
        point = os.fsdecode(mount.point)
        if point == home:
            raise UnsupportedError(
                f"{home} is a mount point, and cannot be renamed",
                hint=f"if a daemon was killed, it left the mount: umount {home}",
            )
        if point.startswith(f"{home}/"):
            raise InUseError(
                f"{point} is mounted",
                hint="stop the containers; what a killed daemon left is unmounted by: umount",
            )


def _recorded_under(source: Side, target: Side) -> Side:
    """Return the side whose name the records have now: a migration may have been interrupted."""
    return source if os.path.isdir(source.records) else target


def _expect_idle(side: Side, records: EngineRecords, containers: Sequence[Container]) -> None:
    """Check that no container runs that a daemon left alive (live-restore)."""
    layers = {
        owner.id: one.id
        for one in records.layers.values()
        for owner in one.owners
        if owner.kind is OwnerKind.CONTAINER
    }
    for container in containers:
        layer = os.fsencode(layers.get(container.id, container.id))
        with contextlib.suppress(OSError):
            # The process of that number may be another one since. Its own layer is in its mounts.
            if container.pid and any(
                layer in mount.root + mount.options for mount in mount_points(container.pid)
            ):
                raise InUseError(
                    f"the container {container.name} runs as process {container.pid}",
                    hint="start the daemon again and stop the container",
                )


# --- the layers -----------------------------------------------------------------------------------


def _layers(
    source: Side, target: Side, records: EngineRecords, place: Workplace
) -> Iterator[PlannedLayer]:
    """Yield the layers, parents before their children."""
    homes = [(source, source.home)]
    if is_blocked(source.home):  # put aside by a run that was interrupted, which moved some layers
        homes = [(target, place.new), (source, place.old)]
    stored = {
        one.id: one for side, home in homes if os.path.isdir(home) for one in layers_of(side, home)
    }
    database = read_layer_database(os.path.join(source.records, "layerdb"))
    written = {id for one in database.writable for id in (one.layer, one.init) if id}
    planned = {id: _planned(one, records.layers.get(id), written) for id, one in stored.items()}
    for id in _parents_first({id: one.parent for id, one in planned.items()}):
        yield planned[id]


def _planned(stored: StoredLayer, known: KnownLayer | None, written: set[str]) -> PlannedLayer:
    if stored.id in written:
        kind = LayerKind.CONTAINER
    elif known is None:
        kind = LayerKind.UNRECORDED
    else:
        kind = LayerKind.IMAGE if known.diff_id else LayerKind.BUILD
    parent = (known and known.parent) or stored.parent or ""
    size = stored.usage.size if stored.usage else known.size if known else None
    return PlannedLayer(stored.id, parent, kind, stored.path, size, known)


def _parents_first(parents: Mapping[str, str]) -> Iterator[str]:
    done: set[str] = set()
    for id in sorted(parents):
        way: list[str] = []
        at = id
        while at in parents and at not in done:
            done.add(at)  # before its parent: after damage the parents may lead in a circle
            way.append(at)
            at = parents[at]
        yield from reversed(way)


def _surveyed(
    side: Side, layers: Sequence[PlannedLayer], looked: Callable[[int, int], None]
) -> Iterator[PlannedLayer]:
    """Yield the layers with what their own content tells."""
    marks = USER if in_user_namespace() else TRUSTED
    for number, one in enumerate(layers, 1):
        layer = one
        if side.is_built_in and side.driver == _OVERLAYS and layer.path:
            with opened(layer.path) as upper:
                found = survey(upper, marks)
            layer = replace(layer, size=found.size, unfollowed=found.unfollowed)
        looked(number, len(layers))
        yield layer


def _incomplete(side: Side, layers: Sequence[PlannedLayer]) -> Iterator[Refusal]:
    for layer in layers:
        if os.path.lexists(os.path.join(side.home, MARKS, layer.id)):
            yield Refusal(layer.id, "it is incomplete: its transfer did not finish")


# --- notes ----------------------------------------------------------------------------------------


def _notes(
    source: Side,
    target: Side,
    layers: Sequence[PlannedLayer],
    transferred: Sequence[PlannedLayer],
    records: EngineRecords,
    *,
    keeps: bool,
) -> Iterator[str]:
    """Yield what people should know first."""
    yield (
        f"start the daemon with -s {target.name} from then on: with another storage driver, or with"
        " none where it chooses another, it shows no images and no containers"
    )
    if not target.is_built_in:
        yield (
            f"start the plugin {target.name} (driver {target.driver}) before the daemon, which needs"
            " --experimental"
        )
    here = {layer.id for layer in layers}
    builds = [
        one
        for one in records.layers.values()
        if one.id in here and any(owner.kind is OwnerKind.BUILD_CACHE for owner in one.owners)
    ]
    if builds and keeps:
        yield (
            f"the build cache has {len(builds)} layers, and one list for all storage drivers: run"
            f" `docker builder prune --all` before the daemon builds on {source.name} again"
        )
    elif builds:
        yield f"the build cache stays usable: its {len(builds)} layers keep their IDs"
    if keeps:
        yield (
            f"{source.home} and the records of its images stay; its containers are on {target.name}"
            " from then on, since a container is on one storage driver"
        )
    if strangers := [layer for layer in layers if layer.kind is LayerKind.UNRECORDED]:
        and_they = "are transferred as well" if strangers[0] in transferred else "are left behind"
        yield f"{len(strangers)} layers have no record, and {and_they}"
    if marked := sum(1 for layer in layers if layer.unfollowed):
        yield (
            f"{marked} layers have overlay marks that mounts of the new side do not follow (redirect,"
            " metacopy), so all layers are written anew, without such marks"
        )
    if lost := [
        one for one in records.layers.values() if one.diff_id and one.id not in here and here
    ]:
        yield f"{len(lost)} layers have a record, but are not in {source.home}"
