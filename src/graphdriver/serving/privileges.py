"""Gives up the privileges of root that a process which serves a driver does not use.

A command does this once, for its whole process: after the driver's class is known, before a thread is
started and before an engine is served. The Python functions that serve a driver (``serve_unix``) leave
the privileges of their caller's process alone.

What is given up would help somebody who runs code in this process, or makes it run a program: to load
modules, read the memory of the machine, open raw sockets, change the network, the clock or processes of
others. Who can mount filesystems and write devices is root all the same; this is one obstacle more, and
no boundary.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from graphdriver.driver import Needs, ProtoDriver
from graphdriver.errors import UnsupportedError
from graphdriver.linux.capabilities import (
    NAMES,
    bounding_set,
    forbid_new_privileges,
    keep_only,
)

LAYERS: Final = frozenset(
    {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",  # chmod of a set-group-ID file of a group that this process is not in
        "CAP_LINUX_IMMUTABLE",  # Remove of files that a container made immutable
        "CAP_MKNOD",
        "CAP_SETFCAP",
        "CAP_SYS_ADMIN",  # attributes trusted.*: without it they are not even listed
        "CAP_SYS_PTRACE",  # /proc of others: names the processes that hold a mount or a home
    }
)
"""The capabilities with which the framework reads and writes layers, for every driver."""

USER_NAMESPACES: Final = frozenset({"CAP_SETGID", "CAP_SETUID"})
"""Those with which ids are mapped in a new user namespace, which the snapshotter tries."""


def needs_of(cls: type[ProtoDriver]) -> Needs | None:
    """Return what a driver's class itself declares; None if it declares nothing.

    A class does not inherit its base class's needs: it may do what that one never does.

    Raises:
        UnsupportedError: what it declares is not a `Needs`, or has a capability that does not exist.
    """
    declared = vars(cls).get("needs")
    if declared is None:
        return None
    if not isinstance(declared, Needs):
        raise UnsupportedError(
            f"the driver {cls.__name__} declares needs = {declared!r}, which is not a Needs",
            hint="correct the driver, or leave the declaration out to keep all privileges",
        )
    if unknown := sorted({*declared.capabilities} - {*NAMES}):
        raise UnsupportedError(
            f"the driver {cls.__name__} needs {', '.join(unknown)}, which is no capability",
            hint="use the names in capabilities(7), such as CAP_SYS_ADMIN",
        )
    return declared


def kept_capabilities(cls: type[ProtoDriver], more: Collection[str] = ()) -> frozenset[str]:
    """Return the capabilities of a process that serves a driver: all, if the driver declares nothing.

    Those that this machine gives no process are left out: a container runtime refuses a container that
    shall have them.

    Args:
        cls: the driver.
        more: what the process needs besides `LAYERS`.

    Raises:
        UnsupportedError: see `needs_of`.
    """
    needs = needs_of(cls)
    wanted = frozenset(NAMES) if needs is None else LAYERS | needs.capabilities | {*more}
    return wanted & bounding_set()


def give_up_privileges(cls: type[ProtoDriver], more: Collection[str] = ()) -> None:
    """Keep only the capabilities that the framework and a driver need; all, if it declares nothing.

    Args:
        cls: the driver that this process serves.
        more: what this process needs besides `LAYERS`.

    Raises:
        UnsupportedError: see `needs_of`.
        OSError: the kernel refused.
    """
    needs = needs_of(cls)
    if needs is None:
        return
    keep_only(kept_capabilities(cls, more))
    if not needs.set_uid_programs:
        forbid_new_privileges()
