"""The maps of user and group ids of a daemon that remaps them.

Such a daemon keeps everything in ``DATA-ROOT/UID.GID``, with the ids on disk of a container's root. Its
maps are all ranges that a user has in ``/etc/subuid`` and ``/etc/subgid``, one after another; which
user's, nothing in that directory tells. The source of the rules is moby's ``pkg/idtools``.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.files.small_files import read_text

SUBUID: Final = "/etc/subuid"
SUBGID: Final = "/etc/subgid"

_IDS: Final = (1 << 32) - 1
"""How many ids there are; the one after them stands for none (chown(2))."""

_REMAPPED: Final = re.compile(r"(\d+)\.(\d+)")
_LINE: Final = re.compile(r"\s*([^:#\s]+):(\d+):(\d+)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class IDMaps:
    """The maps of a daemon; empty: ids in containers are those on disk."""

    uids: tuple[IDMap, ...] = ()
    gids: tuple[IDMap, ...] = ()

    def covering(self) -> IDMaps:
        """Return maps that have all ids on disk, those outside of the ranges after the others.

        Layers have such ids: a daemon makes ``etc/mtab`` of an ``-init`` layer as the host's root.
        """
        return IDMaps(_covering(self.uids), _covering(self.gids))


class _Range(NamedTuple):
    first: int
    size: int


def maps_of(data_root: str, subuid: str = SUBUID, subgid: str = SUBGID) -> IDMaps:
    """Return the maps of a daemon.

    Args:
        data_root: the daemon's directory; with remapped IDs the one named ``UID.GID`` in it.
        subuid: the file with the ranges of user ids.
        subgid: that with the ranges of group ids.

    Raises:
        GraphDriverError: it remaps ids, and these files do not tell how.
    """
    found = _REMAPPED.fullmatch(os.path.basename(data_root))
    if not found:
        return IDMaps()
    users, groups = _ranges(subuid), _ranges(subgid)
    maps = {
        IDMaps(uids, gids)
        for name in users.keys() & groups.keys()
        for uids in _orders(users[name])
        for gids in _orders(groups[name])
        if (uids[0].host_id, gids[0].host_id) == (int(found[1]), int(found[2]))
    }
    if len(maps) == 1:
        return maps.pop()
    wrong = "several users have" if maps else "no user has"
    raise GraphDriverError(
        f"the ids of {data_root} are unknown: {wrong} the first ranges {found[1]} and {found[2]} in"
        f" {subuid} and {subgid}",
        hint="only the ranges with which the daemon ran may begin with these",
    )


def _covering(maps: tuple[IDMap, ...]) -> tuple[IDMap, ...]:
    if not maps:
        return ()
    more = []
    at = max(one.container_id + one.size for one in maps)
    free = 0
    for one in sorted(maps, key=lambda one: one.host_id):
        if size := max(one.host_id - free, 0):
            more.append(IDMap(at, free, size))
            at += size
        free = max(free, one.host_id + one.size)
    if size := _IDS - free:
        more.append(IDMap(at, free, size))
    return (*maps, *more)


def _ranges(path: str) -> dict[str, list[_Range]]:
    """Return the ranges of each user, in the order of the file."""
    found = defaultdict(list)
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, ValueError) as error:
        raise GraphDriverError(f"{path} cannot be read: {error}") from error
    for line in filter(None, map(_LINE.fullmatch, lines)):
        found[line[1]].append(_Range(int(line[2]), int(line[3])))
    return found


def _orders(ranges: Sequence[_Range]) -> Iterator[tuple[IDMap, ...]]:
    """Yield the maps of a user's ranges: some versions of Docker sort them, others do not."""
    for ordered in (ranges, sorted(ranges)):
        maps, at = [], 0
        for one in ordered:
            maps.append(IDMap(at, one.first, one.size))
            at += one.size
        yield tuple(maps)
