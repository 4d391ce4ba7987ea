"""Snapshots with remapped owners, for containers in a user namespace, without a copy of their image.

containerd sends two labels with the container's ID maps. It remaps owners when it makes a mount that
has options for that. These depend on the type of the mount:

| type | options | what containerd does | owners of what is written |
| --- | --- | --- | --- |
| bind | ``uidmap=``, ``gidmap=`` | idmaps the mount | the image's IDs |
| overlay | the same | idmaps the lower directories | the host's IDs |
| fuse3.fuse-overlayfs | ``uidmapping=``, ``gidmapping=`` | passes them on | the image's IDs |

So the upper directory of an overlay gets the host's ID of the container's root as its owner.
(containerd 2.x, core/mount/mount_linux.go; fuse-overlayfs(1). Overlays on idmapped directories need
Linux 5.19.)

For an overlay newer versions idmap one directory, which all lower directories have in common, without
the mounts below it. A lower directory that is a mount, such as an image of erofs, would be empty: so
that is refused.

If containerd is not configured for this, it copies the parent and changes each owner itself, and still
sends the labels: a tree that the host's ID owns already is not remapped again.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from graphdriver.abilities import Mount
from graphdriver.driver import IDMap, host_root
from graphdriver.errors import MalformedRequestError, UnsupportedError
from graphdriver.linux.mount import idmapped_copy
from graphdriver.linux.namespaces import new_user_namespace

UIDS: Final = "containerd.io/snapshot/uidmapping"
GIDS: Final = "containerd.io/snapshot/gidmapping"

_FUSE: Final = "fuse3.fuse-overlayfs"
_OVERLAYS_SINCE: Final = (5, 19)
_SOME_IDS: Final = "0 100000 1"
_RANGE: Final = re.compile(r"(\d{1,10}):(\d{1,10}):(\d{1,10})", re.ASCII)
_HINT: Final = "let containerd remap, without the capability remap-ids, or use no remap"


@dataclass(frozen=True, slots=True)
class Remap:
    """The ID maps of a container's users and groups."""

    uids: Sequence[IDMap]
    gids: Sequence[IDMap]

    def applied(self, mount: Mount, *, is_new: bool) -> Mount:
        """Return a mount with the options that remap its owners.

        Args:
            mount: a mount of a layer, without a remap.
            is_new: whether the snapshot is being created: check that a remap works, and prepare it.

        Raises:
            UnsupportedError: the kernel, the filesystem or the type of mount cannot remap.
        """
        if mount.type not in ("bind", "overlay", _FUSE):
            raise UnsupportedError(f"a mount of type {mount.type} cannot remap owners", hint=_HINT)
        upper = _option(mount, "upperdir")
        roots = [mount.source] if mount.type == "bind" else _option(mount, "lowerdir").split(":")
        owner = os.stat(roots[0]).st_uid
        if owner and owner == host_root(self.uids):  # remapped already, by a containerd that copies
            return mount
        if mount.type == _FUSE:
            return _with(
                mount,
                f"uidmapping={_joined(self.uids, ':')}",
                f"gidmapping={_joined(self.gids, ':')}",
            )
        if is_new:
            if mount.type == "overlay":
                _require_overlay(roots)
            _require_idmapped(roots[0])
            if upper:
                os.chown(upper, host_root(self.uids), host_root(self.gids))
        return _with(
            mount, f"uidmap={_joined(self.uids, ',')}", f"gidmap={_joined(self.gids, ',')}"
        )


def remap_of(labels: Mapping[str, str]) -> Remap | None:
    """Return the remap that a snapshot's labels ask for; None if they do not.

    Raises:
        MalformedRequestError: one of the two labels is missing, or is not an ID map.
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
            f"the label {label} is {text!r}, not a list of CONTAINER-ID:HOST-ID:LENGTH"
        )
    return maps


def _joined(maps: Sequence[IDMap], between: str) -> str:
    return between.join(f"{one.container_id}:{one.host_id}:{one.size}" for one in maps)


def _with(mount: Mount, *options: str) -> Mount:
    return replace(mount, options=(*mount.options, *options))


def _option(mount: Mount, key: str) -> str:
    found = (one.removeprefix(f"{key}=") for one in mount.options if one.startswith(f"{key}="))
    return next(found, "")


def _require_overlay(lowers: Sequence[str]) -> None:
    numbers = re.findall(r"\d+", platform.release())
    if tuple(map(int, numbers[:2])) < _OVERLAYS_SINCE:
        raise UnsupportedError(
            f"Linux {platform.release()} cannot remap owners below an overlay", hint=_HINT
        )
    common = os.path.commonpath([os.path.dirname(one) for one in lowers])
    for one in lowers:
        if os.stat(one).st_dev != os.stat(common).st_dev:
            raise UnsupportedError(
                f"{one} is a mount of its own: containerd remaps the owners of {common} without the"
                " mounts below it",
                hint=_HINT,
            )


def _require_idmapped(directory: str) -> None:
    try:
        namespace = new_user_namespace(_SOME_IDS, _SOME_IDS)
        try:
            os.close(idmapped_copy(directory, namespace))
        finally:
            os.close(namespace)
    except OSError as error:
        raise UnsupportedError(
            f"{directory} cannot be mounted idmapped, to remap owners: {error.strerror}",
            hint=_HINT,
        ) from error
