"""A home: its record, its filesystem, space and inodes."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import graphdriver
from graphdriver.care.findings import Finding, Severity, wrong_access
from graphdriver.drivers.loading import load_installed
from graphdriver.errors import GraphDriverError
from graphdriver.linux.mountinfo import mount_point_of
from graphdriver.serving.home import identity_of, servers_of
from graphdriver.serving.server_record import read_server

LOW_SPACE: Final = 5 << 30
"""Bytes: less is low, on a disk of which they are less than a twentieth."""

LOW_INODES: Final = 100_000

_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "afs"})
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class HomeFacts:
    """What was found.

    Attributes:
        path: the home.
        engine: the engine that its record names; ``""``: it has no record.
        driver: likewise.
        problem: why the record or the driver cannot be used; ``""``: they can.
        served_by: the processes that serve it, in words.
        version: the version of this package that serves it; ``""``: unknown.
        installed: the version that is installed here.
        fstype: its filesystem, as the mount table names it.
        flags: the options of its mount that forbid something: ``ro``, ``nosuid``, ``nodev``,
            ``noexec``.
        size, free: bytes of the filesystem; free: for root.
        inodes, inodes_free: likewise; 0 and 0 where the filesystem has no fixed number.
        uid: its owner.
        mode: its permissions.
    """

    path: str
    engine: str = ""
    driver: str = ""
    problem: str = ""
    served_by: tuple[str, ...] = ()
    version: str = ""
    installed: str = ""
    fstype: str = "ext4"
    flags: frozenset[str] = frozenset()
    size: int = 0
    free: int = 0
    inodes: int = 0
    inodes_free: int = 0
    uid: int = 0
    mode: int = 0o710


def read_home(path: str) -> HomeFacts:
    """Read the facts of a home.

    Raises:
        OSError: it cannot be read.
    """
    engine = driver = problem = ""
    try:
        if identity := identity_of(path):
            engine, driver = identity.engine, identity.driver
            load_installed(driver)
    except GraphDriverError as error:
        problem = str(error)
    server = read_server(path)
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount = mount_point_of(fd)
        room, status = os.statvfs(fd), os.fstat(fd)
    finally:
        os.close(fd)
    forbids = (
        (os.ST_RDONLY, "ro"),
        (os.ST_NOSUID, "nosuid"),
        (os.ST_NODEV, "nodev"),
        (os.ST_NOEXEC, "noexec"),
    )
    return HomeFacts(
        path,
        engine,
        driver,
        problem,
        tuple(servers_of(path)),
        server.version if server else "",
        graphdriver.__version__,
        mount.fstype if mount else "unknown",
        frozenset(name for bit, name in forbids if room.f_flag & bit),
        room.f_blocks * room.f_frsize,
        room.f_bfree * room.f_frsize,
        room.f_files,
        room.f_ffree,
        status.st_uid,
        stat.S_IMODE(status.st_mode),
    )


def check_home(facts: HomeFacts) -> Iterator[Finding]:
    """Yield what the facts mean."""
    served = " and ".join(facts.served_by)
    if served and facts.version:
        served += f", version {facts.version}"
    yield Finding(
        Severity.NOTE,
        "home",
        facts.path,
        f"{facts.driver or 'unknown driver'} for {facts.engine or 'an unknown engine'} on"
        f" {facts.fstype}, {f'served by {served}' if served else 'served by no process seen here'}",
    )
    if facts.problem:
        yield Finding(
            Severity.DAMAGE,
            "unusable-home",
            facts.path,
            facts.problem,
            f"graphdriver fsck {shlex.quote(facts.path)}",
        )
    if facts.version and facts.version != facts.installed:
        yield Finding(
            Severity.WARNING,
            "another-version",
            facts.path,
            f"version {facts.version} serves it, and {facts.installed} is installed",
            "restart the plugin (systemctl restart); containers keep running",
        )
    yield from _check_room(facts)
    yield from _check_mount(facts)
    if facts.uid or facts.mode & 0o007:
        problem = wrong_access(facts.uid, facts.mode)
        yield Finding(
            Severity.WARNING,
            "open-home",
            facts.path,
            f"it {problem}: users of this machine can reach the set-user-ID programs in images",
            f"chown root {shlex.quote(facts.path)}; chmod 0710 {shlex.quote(facts.path)}",
        )


def _check_room(facts: HomeFacts) -> Iterator[Finding]:
    make_room = "remove images and containers that are not needed, or enlarge the filesystem"
    if facts.size:
        left = f"{facts.free / (1 << 30):.1f} GiB of {facts.size / (1 << 30):.1f} GiB are free"
        if facts.free < 1 << 20:
            yield Finding(
                Severity.DAMAGE, "no-space", facts.path, f"the disk is full: {left}", make_room
            )
        elif facts.free < LOW_SPACE and facts.free * 20 < facts.size:
            yield Finding(Severity.WARNING, "low-space", facts.path, left, make_room)
    if facts.inodes:
        left = f"{facts.inodes_free:,} of {facts.inodes:,} inodes are free"
        if not facts.inodes_free:
            yield Finding(Severity.DAMAGE, "no-inodes", facts.path, left, make_room)
        elif facts.inodes_free < LOW_INODES and facts.inodes_free * 20 < facts.inodes:
            yield Finding(
                Severity.WARNING,
                "low-inodes",
                facts.path,
                left,
                f"{make_room}; the driver erofs needs a few inodes for each layer",
            )


def _check_mount(facts: HomeFacts) -> Iterator[Finding]:
    if "ro" in facts.flags:
        yield Finding(
            Severity.DAMAGE,
            "read-only",
            facts.path,
            "the filesystem is read-only: no layer can be made or removed",
            "look for its errors with dmesg, then remount it read-write",
        )
    if lost := sorted(facts.flags - {"ro"}):
        yield Finding(
            Severity.WARNING,
            "restricted-mount",
            facts.path,
            f"it is mounted with {','.join(lost)}: containers cannot use all files of their images",
            f"mount it without {','.join(lost)}",
        )
    if facts.fstype in _IN_MEMORY:
        yield Finding(
            Severity.WARNING,
            "in-memory",
            facts.path,
            f"it is on {facts.fstype}: all layers are lost when the machine stops",
            "choose a directory on a disk, unless that is intended",
        )
    if facts.fstype in _REMOTE or facts.fstype == "overlay":
        yield Finding(
            Severity.WARNING,
            "unsuitable-filesystem",
            facts.path,
            f"it is on {facts.fstype}, which does not hold all that layers have",
            "choose a directory on ext4, XFS or btrfs",
        )
