"""Snapshots with other owners: containers in a user namespace, whose image nobody copies.

containerd gives two labels with the ids of the container, and shifts owners as it mounts, if the mount
says so. What it does is not the same for each type of mount:

| type | what containerd is told | what it does | ids of what is written |
| --- | --- | --- | --- |
| bind | ``uidmap=``, ``gidmap=`` | idmaps the mount | the image's |
| overlay | the same | idmaps each lower folder | those on the host |
| fuse3.fuse-overlayfs | ``uidmapping=``, ``gidmapping=`` | passes them on | the image's |

So the upper folder of an overlay is given to the host's id of the container's root. (containerd 2.x,
core/mount/mount_linux.go; fuse-overlayfs(1). Overlays on idmapped folders came with Linux 5.19.)

A containerd that does not know that a snapshotter can do this copies the parent and changes each owner
itself, and gives the labels all the same: what the host's id owns already is not shifted again.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from graphdriver.driver import IDMap, Mount, host_root
from graphdriver.errors import MalformedRequestError, UnsupportedError
from graphdriver.linux.mount import idmapped_copy
from graphdriver.linux.namespaces import new_user_namespace

UIDS: Final = "containerd.io/snapshot/uidmapping"
GIDS: Final = "containerd.io/snapshot/gidmapping"

_FUSE: Final = "fuse3.fuse-overlayfs"
_OVERLAYS_SINCE: Final = (5, 19)
_SOME_IDS: Final = "0 100000 1"
_RANGE: Final = re.compile(r"(\d{1,10}):(\d{1,10}):(\d{1,10})", re.ASCII)
_HINT: Final = "leave the remap to containerd, without the capability remap-ids, or use none"


@dataclass(frozen=True, slots=True)
class Remap:
    """Which ids of a container are which on the host."""

    uids: Sequence[IDMap]
    gids: Sequence[IDMap]

    def shown(self, mount: Mount, *, is_new: bool) -> Mount:
        """Return the mount that shows a layer with its owners shifted.

        Args:
            mount: shows it as it is.
            is_new: the snapshot is being made: see that it can be done, and prepare for it.

        Raises:
            UnsupportedError: the kernel, the filesystem or the type of mount cannot do it.
        """
        if mount.type not in ("bind", "overlay", _FUSE):
            raise UnsupportedError(
                f"owners cannot be shifted by a mount of type {mount.type}", hint=_HINT
            )
        upper = _option(mount, "upperdir")
        root = mount.source if mount.type == "bind" else _option(mount, "lowerdir").split(":")[0]
        owner = os.stat(root).st_uid
        if owner and owner == host_root(self.uids):
            return mount
        if mount.type == _FUSE:
            return _with(
                mount, f"uidmapping={_told(self.uids, ':')}", f"gidmapping={_told(self.gids, ':')}"
            )
        if is_new:
            _require(mount.type, root)
            if upper:
                os.chown(upper, host_root(self.uids), host_root(self.gids))
        return _with(mount, f"uidmap={_told(self.uids, ',')}", f"gidmap={_told(self.gids, ',')}")


def remap_of(labels: Mapping[str, str]) -> Remap | None:
    """Return what the labels say of a snapshot's owners; None if nothing.

    Raises:
        MalformedRequestError: one of them is missing, or is no map.
    """
    if UIDS not in labels and GIDS not in labels:
        return None
    return Remap(_parsed(labels, UIDS), _parsed(labels, GIDS))


def _parsed(labels: Mapping[str, str], label: str) -> Sequence[IDMap]:
    text = labels.get(label)
    if text is None:
        raise MalformedRequestError(f"the label {label} is missing: users and groups go together")
    ranges = [_RANGE.fullmatch(one) for one in text.split(",")]
    maps = tuple(IDMap(*(int(number) for number in one.groups())) for one in ranges if one)
    if len(maps) < len(ranges) or not all(one.size for one in maps):
        raise MalformedRequestError(
            f"the label {label} is {text!r}, and not CONTAINER-ID:HOST-ID:LENGTH, with commas between"
        )
    return maps


def _told(maps: Sequence[IDMap], between: str) -> str:
    return between.join(f"{one.container_id}:{one.host_id}:{one.size}" for one in maps)


def _with(mount: Mount, *options: str) -> Mount:
    return replace(mount, options=(*mount.options, *options))


def _option(mount: Mount, key: str) -> str:
    found = (one.removeprefix(f"{key}=") for one in mount.options if one.startswith(f"{key}="))
    return next(found, "")


def _require(kind: str, folder: str) -> None:
    numbers = re.findall(r"\d+", platform.release())
    if kind == "overlay" and tuple(map(int, numbers[:2])) < _OVERLAYS_SINCE:
        raise UnsupportedError(
            f"owners below an overlay cannot be shifted by Linux {platform.release()}", hint=_HINT
        )
    try:
        namespace = new_user_namespace(_SOME_IDS, _SOME_IDS)
        try:
            os.close(idmapped_copy(folder, namespace))
        finally:
            os.close(namespace)
    except OSError as error:
        raise UnsupportedError(
            f"owners cannot be shifted on {folder} by an idmapped mount: {error.strerror}",
            hint=_HINT,
        ) from error
