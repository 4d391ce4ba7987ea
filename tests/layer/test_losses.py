"""What a filesystem or a user namespace cannot keep is left out and told once, or is an error."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import UnsupportedError
from graphdriver.layer.unpack import Unpacked, unpack

NOBODY = 0xFFFFFFFF
FAR = {b"past": -(1 << 63), b"future": (1 << 63) - 1}


def unpack_into(root: Path, data: bytes) -> Unpacked:
    fd = os.open(root, os.O_RDONLY)
    try:
        return unpack(io.BytesIO(data), fd)
    finally:
        os.close(fd)


def labelled(name: bytes, *attributes: bytes) -> bytes:
    told = [(b"SCHILY.xattr." + attribute, b"value") for attribute in attributes]
    return tars.pax(told) + tars.file(name)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Path]:
    """A filesystem without extended attributes."""
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_attributes_that_the_filesystem_does_not_know_are_left_out_and_each_namespace_is_told_once(
    bare: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unpacked = unpack_into(
        bare,
        tars.tar(
            labelled(b"f", b"user.a", b"user.b", b"trusted.c"),
            labelled(b"g", b"user.a", b"security.odd"),
            tars.pax([(b"SCHILY.xattr.user.a", b"1")]),
            tars.directory(b"d"),
        ),
    )
    assert unpacked == Unpacked(size=8, inodes=3, describes_root=False)
    assert sorted(os.listdir(bare)) == ["d", "f", "g"]
    assert [record.getMessage() for record in caplog.records] == [
        f"'{name}': the attribute '{attribute}' cannot be kept: Operation not supported; "
        "more of the kind in this layer is not logged"
        for name, attribute in (
            ("f", "user.a"),
            ("f", "trusted.c"),
            ("g", "security.odd"),
        )
    ]


@pytest.mark.parametrize("name", [b"security.capability", b"system.posix_acl_access"])
def test_an_attribute_without_which_the_file_is_another_is_never_left_out(
    bare: Path, name: bytes
) -> None:
    with pytest.raises(UnsupportedError, match=rf"'f': the attribute '{name.decode()}' cannot be"):
        unpack_into(bare, tars.tar(labelled(b"f", name)))


def test_attributes_of_namespaces_that_nobody_knows_are_told_once_in_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [b"odd%d.x" % n for n in range(50)]
    unpack_into(tmp_path, tars.tar(labelled(b"f", *odd), labelled(b"g", *odd)))
    (told,) = caplog.records
    assert told.getMessage().startswith("'f': the attribute 'odd0.x' is in no namespace")


@pytest.mark.parametrize(
    "entry",
    [tars.symlink(b"e", b"x"), tars.header(b"e", b"6"), tars.header(b"e", b"3", device=(1, 3))],
    ids=["symbolic link", "FIFO", "device"],
)
def test_what_can_have_no_attributes_of_users_is_made_without(
    place: Path, caplog: pytest.LogCaptureFixture, entry: bytes
) -> None:
    attributes = tars.pax([(b"SCHILY.xattr.user.k", b"1"), (b"SCHILY.xattr.trusted.k", b"2")])
    unpack_into(place, tars.tar(attributes, entry))
    assert os.listxattr(place / "e", follow_symlinks=False) == ["trusted.k"]
    (told,) = caplog.records
    assert told.getMessage().startswith(
        "'e': the attribute 'user.k' cannot be kept: Operation not p"
    )


def test_an_access_control_list_of_a_link_is_left_out(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Linux has none: the permissions of a link are never looked at."""
    acl = struct.pack("<IHHIHHIHHI", 2, 1, 7, NOBODY, 4, 5, NOBODY, 32, 5, NOBODY)
    listed = tars.pax([(b"SCHILY.xattr.system.posix_acl_access", acl)])
    unpack_into(place, tars.tar(listed, tars.symlink(b"s", b"f")))
    assert os.listxattr(place / "s", follow_symlinks=False) == []
    (told,) = caplog.records
    assert "'system.posix_acl_access' cannot be kept" in told.getMessage()


NEAREST = {
    # From the range of each: ext4 has 34 bits from 1901 on, XFS (bigtime) counts to 2486.
    "ext4": (-(1 << 31), (3 << 32) + (1 << 31) - 1),
    "xfs": (-(1 << 31), 16299260424),
}
YEARS = {
    "1754": b"-6795364579",
    "1": b"-62135596800.5",
    "2500": b"16725225600",
    "9999": b"253402300799",
    "no year": b"9223372036854775807",
    "no year, long ago": b"-9223372036854775807",
}


@pytest.mark.parametrize("year", YEARS)
def test_a_time_becomes_the_nearest_that_the_filesystem_keeps_and_is_told_once(
    filesystem: Path, place: Path, caplog: pytest.LogCaptureFixture, year: str
) -> None:
    time = tars.pax([(b"mtime", YEARS[year])])
    entries = [time, tars.file(b"f"), time, tars.symlink(b"s", b"f"), time, tars.directory(b"d")]
    unpack_into(place, tars.tar(*entries, tars.file(b"d/f")))
    wanted = int(Decimal(YEARS[year].decode()) * 1_000_000_000)
    least, most = NEAREST.get(filesystem.name, (-(1 << 63), (1 << 63) - 1))
    nearest = min(max(wanted, least * 1_000_000_000), most * 1_000_000_000)
    assert [os.lstat(place / name).st_mtime_ns for name in "fsd"] == [nearest] * 3
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (nearest != wanted)
    assert all(one.startswith("'f': the filesystem cannot keep its time, ") for one in told)


def test_a_time_in_a_header_may_be_as_far(tmp_path: Path) -> None:
    """Base 256 has 64 bits, as the kernel's own times."""
    far = [tars.directory(name, mtime=time, magic=tars.GNU) for name, time in FAR.items()]
    unpack_into(tmp_path, tars.tar(*far))
    assert (tmp_path / "past").stat().st_mtime < 0
    assert (tmp_path / "future").stat().st_mtime > 2**32


def test_an_attribute_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    tar = tars.tar(labelled(b"f", b"security.capability"))
    with pytest.raises(UnsupportedError, match=r"'security\.capability' cannot be kept: Invalid"):
        unpack_into(tmp_path, tar)


# --- without root ---------------------------------------------------------------------------------

INSIDE = """
import ctypes, io, os, sys
from graphdriver.layer.unpack import unpack
from graphdriver.errors import GraphDriverError
import logging
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
CLONE_NEWUSER = 0x10000000
assert ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0
print("ready", flush=True)
sys.stdin.buffer.readline()
os.setgid(0)
os.setuid(0)
data = sys.stdin.buffer.read()
fd = os.open(sys.argv[1], os.O_RDONLY)
try:
    print(unpack(io.BytesIO(data), fd))
except GraphDriverError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of the user's, where they may go."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        os.chown(path, 100000, 100000)
        yield Path(path)


def unpack_without_root(root: Path, data: bytes) -> list[str]:
    """Unpack in a user namespace whose ids 0 to 999 are the host's 100000 and on."""
    command = [sys.executable, "-c", INSIDE, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        for ids in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{ids}").write_text("0 100000 1000\n")
        said, _ = child.communicate(b"\n" + data)
    return said.decode().splitlines()


def test_without_root_devices_are_left_out_and_their_links(
    theirs: Path,
) -> None:
    entries = [
        tars.header(b"null", b"3", device=(1, 3)),
        tars.hard_link(b"early", b"disk"),
        tars.header(b"disk", b"4", device=(7, 0)),
        tars.hard_link(b"same", b"null"),
        tars.hard_link(b"same-again", b"same"),
        tars.header(b"fifo", b"6"),
        tars.pax([(b"SCHILY.xattr.trusted.a", b"1"), (b"SCHILY.xattr.user.b", b"2")]),
        tars.file(b"f", uid=999, mode=0o4755),
    ]
    assert unpack_without_root(theirs, tars.tar(*entries)) == [
        "WARNING 'null': this device cannot be made here: Operation not permitted; "
        "more of the kind in this layer is not logged",
        "WARNING 'f': the attribute 'trusted.a' cannot be kept: Operation not permitted; "
        "more of the kind in this layer is not logged",
        "Unpacked(size=4, inodes=2, describes_root=False)",
    ]
    assert sorted(os.listdir(theirs)) == ["f", "fifo"]
    found = (theirs / "f").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (100999, 0o4755)
    assert os.getxattr(theirs / "f", "user.b") == b"2"


def test_without_root_a_device_leaves_what_lies_below_its_name(theirs: Path) -> None:
    (theirs / "f").write_bytes(b"below")
    entries = [tars.file(b"own"), tars.header(b"f", b"4", device=(7, 0))]
    unpack_without_root(theirs, tars.tar(*entries, tars.header(b"own", b"3", device=(1, 3))))
    assert os.listdir(theirs) == ["f"]
    assert (theirs / "f").read_bytes() == b"below"


def test_without_root_an_owner_that_has_no_id_is_an_error(theirs: Path) -> None:
    (said,) = unpack_without_root(theirs, tars.tar(tars.file(b"f", uid=5, gid=1000)))
    assert said == (
        "GraphDriverError 'f': its owner 5:1000 is nobody in this user namespace; give the user who "
        "runs this a larger range of subordinate ids"
    )
