"""Groups, by name or number."""

from __future__ import annotations

import grp

from graphdriver.errors import UnsupportedError


def group_id(group: str | int | None) -> int:
    """Return a group's number; of None -1, by which chown(2) leaves a group as it is.

    Raises:
        UnsupportedError: there is no group of that name.
    """
    if group is None:
        return -1
    if isinstance(group, int) or group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UnsupportedError(
            f"there is no group {group} on this machine", hint="name another, or give its number"
        ) from None
