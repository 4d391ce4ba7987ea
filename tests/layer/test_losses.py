"""What a filesystem or a user namespace cannot keep: an error, or with best effort a loss told once."""

from __future__ import annotations

import io
import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance import tars
from graphdriver.errors import UnsupportedError
from graphdriver.layer.losses import Loss
from graphdriver.layer.unpack import Unpacked, unpack

FAR = b"999999999999"
"""A time that no filesystem here can keep."""


def unpack_into(root: Path, data: bytes, **how: Any) -> Unpacked:
    fd = os.open(root, os.O_RDONLY)
    try:
        return unpack(io.BytesIO(data), fd, **how)
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


def test_an_attribute_without_a_place_is_an_error_that_names_it_and_the_entry(bare: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'f': the attribute 'user\.a'.* not supported"):
        unpack_into(bare, tars.tar(labelled(b"f", b"user.a")))


def test_with_best_effort_attributes_are_lost_and_each_namespace_is_told_once(
    bare: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unpacked = unpack_into(
        bare,
        tars.tar(
            labelled(b"f", b"user.a", b"user.b", b"trusted.c"),
            labelled(b"g", b"user.a", b"security.odd"),
            tars.pax([(b"SCHILY.xattr.user.a", b"1")]),
            tars.folder(b"d"),
        ),
        may_lose=Loss,
    )
    assert unpacked == Unpacked(size=8, inodes=3)
    assert sorted(os.listdir(bare)) == ["d", "f", "g"]
    assert [record.getMessage() for record in caplog.records] == [
        f"'{name}': the attribute '{attribute}' cannot be kept: Operation not supported; "
        "further extended attributes like it are lost without a word"
        for name, attribute in (
            ("f", "user.a"),
            ("f", "trusted.c"),
            ("g", "security.odd"),
        )
    ]


def test_attributes_of_namespaces_that_nobody_knows_are_told_once_in_all(
    bare: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [b"odd%d.x" % n for n in range(50)]
    unpack_into(bare, tars.tar(labelled(b"f", *odd)), may_lose=Loss)
    assert len(caplog.records) == 1


def test_with_best_effort_a_time_becomes_the_nearest_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = tars.pax([(b"mtime", FAR)])
    base_256 = tars.folder(b"d", mtime=-(1 << 63), magic=tars.GNU)
    entries = [time, tars.file(b"f"), time, tars.symlink(b"s", b"f"), base_256]
    with pytest.raises(UnsupportedError, match="'f': the filesystem cannot keep its time"):
        unpack_into(tmp_path, tars.tar(*entries))
    unpack_into(tmp_path, tars.tar(*entries), may_lose=Loss)
    assert (tmp_path / "f").stat().st_mtime > 2**32
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert told.getMessage().startswith("'f': the filesystem cannot keep its time; further times")


@pytest.mark.parametrize("may_lose", [(), Loss])
def test_an_attribute_that_is_damaged_is_an_error_whatever_was_asked(
    tmp_path: Path, may_lose: Collection[Loss]
) -> None:
    tar = tars.tar(labelled(b"f", b"security.capability"))
    with pytest.raises(UnsupportedError, match=r"'security\.capability' cannot be kept: Invalid"):
        unpack_into(tmp_path, tar, may_lose=may_lose)


# --- without root ---------------------------------------------------------------------------------

INSIDE = """
import ctypes, io, os, sys
from graphdriver.layer.losses import Loss
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
    print(unpack(io.BytesIO(data), fd, may_lose=Loss if sys.argv[2] == "best effort" else ()))
except GraphDriverError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of the user's, where they may go."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        os.chown(path, 100000, 100000)
        yield Path(path)


def unpack_without_root(root: Path, data: bytes, how: str) -> list[str]:
    """Unpack in a user namespace whose ids 0 to 999 are the host's 100000 and on."""
    command = [sys.executable, "-c", INSIDE, str(root), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        for ids in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{ids}").write_text("0 100000 1000\n")
        said, _ = child.communicate(b"\n" + data)
    return said.decode().splitlines()


def test_without_root_a_device_is_an_error_that_names_it(theirs: Path) -> None:
    device = tars.header(b"null", b"3", device=(1, 3))
    assert unpack_without_root(theirs, tars.tar(device), "all") == [
        "UnsupportedError 'null': this device cannot be made here: Operation not permitted"
    ]


def test_without_root_and_with_best_effort_devices_are_left_out_and_their_links(
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
    assert unpack_without_root(theirs, tars.tar(*entries), "best effort") == [
        "WARNING 'null': this device cannot be made here: Operation not permitted; "
        "further devices like it are lost without a word",
        "WARNING 'f': the attribute 'trusted.a' cannot be kept: Operation not permitted; "
        "further extended attributes like it are lost without a word",
        "Unpacked(size=4, inodes=2)",
    ]
    assert sorted(os.listdir(theirs)) == ["f", "fifo"]
    found = (theirs / "f").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (100999, 0o4755)
    assert os.getxattr(theirs / "f", "user.b") == b"2"


@pytest.mark.parametrize("how", ["all", "best effort"])
def test_without_root_an_owner_that_has_no_id_is_an_error_whatever_was_asked(
    theirs: Path, how: str
) -> None:
    (said,) = unpack_without_root(theirs, tars.tar(tars.file(b"f", uid=5, gid=1000)), how)
    assert said == (
        "GraphDriverError 'f': its owner 5:1000 is nobody in this user namespace; give the user who "
        "runs this a larger range of subordinate ids"
    )
