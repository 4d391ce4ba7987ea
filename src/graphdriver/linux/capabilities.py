"""The capabilities of the calling thread: capabilities(7), prctl(2), capset(2).

The kernel keeps them for each thread, and a new thread or process begins with those of its maker. So a
process restricts itself before it starts a thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from typing import Final

from graphdriver.linux.libc import libc, raise_errno

NAMES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""The names by number (linux/capability.h); newer kernels may have more at the end."""

_SETPCAP: Final = 1 << NAMES.index("CAP_SETPCAP")

# linux/prctl.h
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words for each set


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Word(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_Sets = _Word * 2


def named(mask: int) -> frozenset[str]:
    """Return the capabilities in a set, as /proc/PID/status shows it in hexadecimal digits."""
    return frozenset(name for number, name in enumerate(NAMES) if mask >> number & 1)


def bounding_set() -> frozenset[str]:
    """Return the capabilities that no program of this process's children can exceed."""
    with open("/proc/thread-self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("CapBnd:"))
    return named(int(line.partition(":")[2], 16))


def keep_only(kept: Collection[str]) -> None:
    """Give up all other capabilities for good: the bounding set too, and nothing is inheritable.

    A capability that the thread does not have is not added. Without CAP_SETPCAP the bounding set stays
    as it is; then `forbid_new_privileges` keeps programs from regaining what was given up.

    Args:
        kept: some of `NAMES`.

    Raises:
        OSError: the kernel refused.
        ValueError: there is no capability of such a name.
    """
    mask = sum(1 << NAMES.index(name) for name in set(kept))
    header, sets = _Header(_VERSION_3, 0), _Sets()
    if libc.capget(ctypes.byref(header), ctypes.byref(sets)):
        raise_errno("capget")
    # The bounding set first: this needs CAP_SETPCAP.
    if sets[0].effective & _SETPCAP:
        number = 0
        while (held := libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:
            if held and not mask >> number & 1 and libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
                raise_errno("prctl PR_CAPBSET_DROP")
            number += 1
    for word, part in zip(sets, (mask & 0xFFFFFFFF, mask >> 32), strict=True):
        word.permitted &= part
        word.effective &= part
        word.inheritable = 0
    if libc.capset(ctypes.byref(header), ctypes.byref(sets)):
        raise_errno("capset")


def forbid_new_privileges() -> None:
    """Let no program that is started gain privileges by its set-user-ID bit or file capabilities.

    Raises:
        OSError: the kernel refused.
    """
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise_errno("prctl PR_SET_NO_NEW_PRIVS")
