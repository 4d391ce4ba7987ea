"""What the kernel is given for a limit and for a usage; that the limit holds is untried: no filesystem
here has quotas.

The numbers are those that a C program prints which fills the structs of ``linux/dqblk_xfs.h`` and
``linux/fs.h`` by their members' names.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from graphdriver.abilities import Usage
from graphdriver.errors import UnsupportedError
from graphdriver.linux import project_quota

PROJECT = 4_000_000_000


def test_a_limit_is_a_struct_fs_disk_quota() -> None:
    assert project_quota.limit_of(PROJECT, 2049 * 512) == bytes.fromhex(
        "01020c00"  # d_version, d_flags: FS_PROJ_QUOTA, d_fieldmask: FS_DQ_BSOFT | FS_DQ_BHARD
        "00286bee"  # d_id
        "0108000000000000"  # d_blk_hardlimit
        "0108000000000000" + "00" * 88  # d_blk_softlimit
    )


def test_a_limit_is_never_less_than_was_asked_for() -> None:
    assert project_quota.limit_of(1, 513) == project_quota.limit_of(1, 1024)


def test_the_command_is_that_of_project_quotas() -> None:
    assert project_quota.command_of(0x5804) == 5_768_194  # QCMD(Q_XSETQLIM, PRJQUOTA)


def test_folders_join_a_project_and_keep_their_other_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "diff", tmp_path / "work"]
    for folder in folders:
        folder.mkdir()
    project = folders[0].stat().st_ino & 0xFFFFFFFF
    asked: list[tuple[str, int, bytes]] = []

    def ioctl(fd: int, request: int, argument: bytes) -> bytes:
        asked.append((os.readlink(f"/proc/self/fd/{fd}"), request, argument))
        #  fsx_xflags: FS_XFLAG_NODUMP, fsx_extsize, fsx_nextents, fsx_projid, fsx_cowextsize
        return bytes.fromhex("80000000 01000000 02000000 07000000 03000000") + bytes(8)

    called: list[tuple[Any, ...]] = []

    class Libc:
        def syscall(self, *arguments: Any) -> int:
            called.append(arguments)
            return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(project_quota, "libc", Libc())
    project_quota.limit_tree([str(folder) for folder in folders], 1 << 30)
    joined = bytes.fromhex("80020000 01000000 02000000") + project.to_bytes(4, "little")
    assert asked == [
        request
        for folder in folders
        for request in (
            (str(folder), 2_149_341_215, bytes(28)),  # FS_IOC_FSGETXATTR
            (str(folder), 1_075_599_392, joined + bytes.fromhex("03000000") + bytes(8)),
        )
    ]
    ((number, _, command, id, limit),) = called
    assert (number, command.value, id) == (443, 5_768_194, project)
    assert limit.raw[:-1] == project_quota.limit_of(project, 1 << 30)


class Counting:
    """A kernel with quotas: each project has 40 blocks of 512 bytes, and 3 inodes."""

    def __init__(self, refused: bool) -> None:
        self._refused = refused
        self.asked: list[tuple[int, int]] = []

    def syscall(self, number: int, _fd: int, command: Any, project: int, quota: Any) -> int:
        assert number == 443
        self.asked.append((command.value, project))
        quota[24 + 16 : 24 + 32] = (40).to_bytes(8, "little") + (3).to_bytes(8, "little")
        return -1 if self._refused else 0


@pytest.mark.parametrize(
    ("flags", "is_own", "refused", "counted"),
    [
        ("80020000", True, False, Usage(40 * 512, 3)),
        ("80000000", True, False, None),  # new files are in no project
        ("80020000", False, False, None),  # of an operator, for more than this directory
        ("80020000", True, True, None),
    ],
)
def test_what_the_filesystem_counted_is_told_of_its_own_project_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: str,
    is_own: bool,
    refused: bool,
    counted: Usage | None,
) -> None:
    project = tmp_path.stat().st_ino & 0xFFFFFFFF if is_own else PROJECT
    found = bytes.fromhex(flags) + bytes(8) + project.to_bytes(4, "little") + bytes(12)
    kernel = Counting(refused)
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: found)
    monkeypatch.setattr(project_quota, "libc", kernel)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert project_quota.usage_of(fd) == counted
    finally:
        os.close(fd)
    # QCMD(Q_XGETQUOTA, PRJQUOTA)
    assert kernel.asked == ([(5_767_938, project)] if counted or refused else [])


@pytest.mark.parametrize("above", ["/dev/shm", ""])
def test_a_filesystem_without_project_quotas_says_so(tmp_path: Path, above: str) -> None:
    folder = Path(above, f"gd-quota-{os.getpid()}") if above else tmp_path / "folder"
    folder.mkdir()
    try:
        with pytest.raises(UnsupportedError, match=r"no project quotas.*\(.*\); leave size= out"):
            project_quota.limit_tree([str(folder)], 1 << 30)
    finally:
        folder.rmdir()


def test_another_failure_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="Input/output error"):
        project_quota.limit_tree([str(tmp_path)], 1 << 30)
