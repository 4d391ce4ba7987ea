"""Mounts that nobody needs, and the processes that hold them.

A mount below a home is explained by a reference count of its layer, by a container that has the layer,
or, for the image of a layer, by a process that serves the home: that one unmounts it. A mount that
nothing explains has leaked. A layer that is mounted only in another mount namespace is held there: its
files cannot be freed until that namespace is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from graphdriver.abilities import ability
from graphdriver.care.containerd_records import read_containerd
from graphdriver.care.docker_records import read_docker
from graphdriver.care.findings import Finding, Severity
from graphdriver.care.owners import OwnerKind
from graphdriver.drivers.loading import load_installed
from graphdriver.errors import GraphDriverError
from graphdriver.homes import CountsHeld
from graphdriver.linux.mountinfo import mount_points
from graphdriver.linux.processes import device_users, process_name, processes
from graphdriver.serving.home import servers_of

_UPPER: Final = re.compile(rb"(?:^|,)upperdir=([^,]*?)/?([A-Za-z0-9][A-Za-z0-9_.-]*)/diff(?:,|$)")
_IMAGES: Final = frozenset({"erofs"})
_MOST: Final = 20
"""How many leaks are described one by one."""


@dataclass(frozen=True, slots=True)
class HomeMount:
    """A mount below a home.

    Attributes:
        point: its path.
        fstype: its filesystem.
        device: the number of its filesystem.
        layer: the layer in whose directory it is.
        references: how often the layer was got and not put; 0: no count was found.
        container: the container that has the layer; ``""``: none is known.
        has_layer: whether the layer's directory exists.
        holders: the processes that use it, in words; read for leaked ones.
    """

    point: str
    fstype: str
    device: int
    layer: str
    references: int = 0
    container: str = ""
    has_layer: bool = True
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldElsewhere:
    """A layer that only another mount namespace has mounted, and a process there."""

    layer: str
    process: str


@dataclass(frozen=True, slots=True)
class MountFacts:
    """What was found.

    Attributes:
        home: the home.
        mounts: the mounts below it, in this mount namespace.
        elsewhere: layers that are mounted only elsewhere.
        is_served: whether a process serves the home.
        unread: why the engine's records are incomplete; ``""``: they are not.
    """

    home: str
    mounts: tuple[HomeMount, ...] = ()
    elsewhere: tuple[HeldElsewhere, ...] = ()
    is_served: bool = False
    unread: str = ""


def leaked(facts: MountFacts) -> list[HomeMount]:
    """Return the mounts that nothing explains."""
    users = facts.is_served or any(
        one.fstype not in _IMAGES and _is_needed(one) for one in facts.mounts
    )
    return [
        one
        for one in facts.mounts
        if not (_is_needed(one) or (users and one.has_layer and one.fstype in _IMAGES))
    ]


def _is_needed(mount: HomeMount) -> bool:
    return mount.has_layer and bool(mount.references or mount.container)


def read_mounts(home: str, engine: str, driver: str) -> MountFacts:
    """Read the facts of a home.

    Raises:
        OSError: the mount table cannot be read.
    """
    references: Mapping[str, int] = {}
    with contextlib.suppress(OSError, GraphDriverError):
        if counts := ability(load_installed(driver), CountsHeld):
            references = {**counts.held_layers(os.path.realpath(home)), **counts.held_layers(home)}
    containers, unread = _containers(home, engine)
    above = sorted({f"{os.path.abspath(home)}/", f"{os.path.realpath(home)}/"})
    mounts, devices = [], set()
    for one in mount_points():
        devices.add(one.device)
        point = os.fsdecode(one.point)
        for prefix in above:
            if point.startswith(prefix):
                layer = point.removeprefix(prefix).partition("/")[0]
                mounts.append(
                    HomeMount(
                        point,
                        one.fstype,
                        one.device,
                        layer,
                        references.get(layer, 0),
                        containers.get(layer, ""),
                        os.path.isdir(os.path.join(home, layer)),
                    )
                )
                break
    layers = frozenset(name for name in os.listdir(home) if not name.startswith("."))
    elsewhere = tuple(_elsewhere(os.path.realpath(home), layers, devices))
    facts = MountFacts(home, tuple(mounts), elsewhere, bool(servers_of(home)), unread)
    lost = leaked(facts)[:_MOST]
    users = device_users({one.device for one in lost}) if lost else {}
    seen = (
        replace(one, holders=tuple(users[one.device])) if one in lost else one for one in mounts
    )
    return replace(facts, mounts=tuple(seen))


def _containers(home: str, engine: str) -> tuple[dict[str, str], str]:
    """Return the containers, or snapshots, by layer; and why some may be missing."""
    real = os.path.realpath(home)
    try:
        if engine == "containerd":
            records = read_containerd(real)
        else:
            records = read_docker(os.path.dirname(real), os.path.basename(real))
    except (OSError, ValueError, GraphDriverError) as error:
        return {}, str(error)
    kinds = {OwnerKind.CONTAINER, OwnerKind.SNAPSHOT}
    found = {
        id: owner.name
        for id, layer in records.layers.items()
        for owner in layer.owners
        if owner.kind in kinds
    }
    return found, "; ".join(records.unread[:3])


def _elsewhere(home: str, layers: frozenset[str], here: set[int]) -> Iterator[HeldElsewhere]:
    """Yield the layers whose overlay is mounted in another mount namespace, and not in this one."""
    seen = {os.readlink("/proc/self/ns/mnt")}
    found = set()
    for pid in processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            for one in mount_points(pid):
                upper = _UPPER.search(one.options) if one.fstype == "overlay" else None
                if upper is None or one.device in here or one.device in found:
                    continue
                layer = os.fsdecode(upper[2])
                # The kernel shows the path as it was given: our mounts are relative to their home.
                if layer in layers and os.fsdecode(upper[1]) in ("", home):
                    found.add(one.device)
                    yield HeldElsewhere(layer, f"process {pid} ({process_name(pid)})")


def check_mounts(facts: MountFacts) -> Iterator[Finding]:
    """Yield what the facts mean."""
    lost = leaked(facts)
    yield Finding(
        Severity.NOTE,
        "mounts",
        facts.home,
        f"{len(facts.mounts)} mounts below it, {len(facts.mounts) - len(lost)} of them explained",
    )
    if facts.unread:
        yield Finding(
            Severity.NOTE,
            "unread-records",
            facts.home,
            f"not all containers are known: {facts.unread}",
        )
    for one in lost[:_MOST]:
        why = "has no reference count, and no container has it"
        if not one.has_layer:
            why = "does not exist any more"
        users = f"; {'; '.join(one.holders)}" if one.holders else ""
        yield Finding(
            Severity.WARNING,
            "leaked-mount",
            one.point,
            f"{one.fstype} is mounted there, and layer {one.layer} {why}{users}",
            f"{'end these processes, then ' if one.holders else ''}umount {shlex.quote(one.point)}",
        )
    if len(lost) > _MOST:
        yield Finding(
            Severity.WARNING,
            "leaked-mounts",
            facts.home,
            f"{len(lost) - _MOST} more leaked mounts",
            "unmount those above first, and run doctor again",
        )
    for held in facts.elsewhere[:_MOST]:
        yield Finding(
            Severity.WARNING,
            "held-elsewhere",
            held.layer,
            f"the layer is mounted only in the mount namespace of {held.process}, so that its space"
            " is not freed when it is removed",
            "end that process, or restart its service",
        )
