"""A process that serves a driver keeps the privileges that the driver needs, and no others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.driver import Needs, ProtoDriver
from graphdriver.drivers.loading import available, load
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import UnsupportedError
from graphdriver.serving.privileges import LAYERS, USER_NAMESPACES, needs_of
from tests.support.command import Serving, environment, graphdriver
from tests.support.privileges import Privileges, privileges_of
from tests.support.snapshotter import DRIVERS, on_driver

pytestmark = pytest.mark.root

KEPT = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
}
"""Written out: who changes what is kept for every driver changes this test too."""

OVER_QUOTA = {"vfs", "overlay2", "erofs", "btrfs"}
"""Drivers for which no program writes what a container writes."""

FOREIGN = """\
import ctypes
from graphdriver import Needs
from plain_folders import PlainFolders

class Silent(PlainFolders): pass

class Declaring(PlainFolders):
    needs = Needs(frozenset({"CAP_NET_ADMIN"}))

class RunsSudo(PlainFolders):
    needs = Needs(set_uid_programs=True)

class Heir(Declaring): pass

class Typo(PlainFolders):
    needs = Needs(frozenset({"CAP_NET_ADMINISTRATION"}))

class Wrong(PlainFolders):
    needs = ("CAP_NET_ADMIN",)
"""


def held() -> frozenset[str]:
    """Return the capabilities that this process has, and so could pass on."""
    (own,) = privileges_of()
    return own.bounding


def only(kept: set[str]) -> Privileges:
    """Return the privileges of a process that keeps just these capabilities of ours."""
    mine = held() & kept
    return Privileges(frozenset(), mine, mine, mine, frozenset(), no_new=True)


def expected(driver: str) -> set[str]:
    return KEPT | ({"CAP_SYS_RESOURCE"} if driver in OVER_QUOTA else set())


def test_every_driver_of_ours_declares_its_needs() -> None:
    ours = {name for name, cls in available().items() if needs_of(load(name)) is not None and cls}
    assert ours >= {*DRIVERS}
    assert KEPT == LAYERS


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_plugin_keeps_what_its_driver_needs(folder: Path, driver: str) -> None:
    one = Serving(folder, driver).ready()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(one.socket)
            connection.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: p\r\n\r\n")
            assert connection.recv(1)  # so it has a thread for the connection, too
            assert privileges_of(one.process.pid) == {only(expected(driver))}
    finally:
        assert one.end() == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_snapshotter_keeps_what_its_driver_needs(folder: Path, driver: str) -> None:
    with on_driver(driver, folder) as one:
        assert one.process
        kept = expected(driver) | USER_NAMESPACES
        assert privileges_of(one.process.pid) == {only(kept)}


@pytest.mark.parametrize(
    ("name", "kept", "no_new"),
    [
        ("Silent", None, False),
        ("Heir", None, False),
        ("Declaring", {"CAP_NET_ADMIN"}, True),
        ("RunsSudo", set(), False),
    ],
)
def test_a_driver_of_somebody_else_keeps_all_unless_it_declares_its_needs(
    folder: Path, name: str, kept: set[str] | None, no_new: bool
) -> None:
    (folder / "foreign.py").write_text(FOREIGN)
    one = Serving(folder, f"foreign:{name}", path=str(folder)).ready()
    try:
        (found,) = privileges_of(one.process.pid)
    finally:
        one.end()
    wanted = held() if kept is None else held() & (KEPT | kept)
    assert (found.permitted, found.bounding, found.no_new) == (wanted, wanted, no_new)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Typo", "the driver Typo needs CAP_NET_ADMINISTRATION, which is no capability"),
        ("Wrong", "the driver Wrong declares needs = ('CAP_NET_ADMIN',), which is not a Needs"),
    ],
)
def test_a_wrong_declaration_is_a_clear_error(folder: Path, name: str, said: str) -> None:
    (folder / "foreign.py").write_text(FOREIGN)
    socket_path = f"{folder}/{folder.name}.sock"
    done = graphdriver("serve", f"foreign:{name}", "--socket", socket_path, path=str(folder))
    assert (done.returncode, said in done.stderr.decode()) == (7, True)


def test_a_subclass_does_not_inherit_needs() -> None:
    class Mine(VfsDriver):
        pass

    assert needs_of(VfsDriver) == Needs(frozenset({"CAP_SYS_RESOURCE"}))
    assert needs_of(Mine) is None


def test_what_is_declared_is_checked_before_anything_is_given_up() -> None:
    class Wrong(VfsDriver):
        needs = Needs(frozenset({"CAP_NOTHING"}))

    assert issubclass(Wrong, ProtoDriver)
    with pytest.raises(UnsupportedError, match=r"CAP_NOTHING.*capabilities\(7\)"):
        needs_of(Wrong)


def test_the_python_functions_leave_their_callers_process_as_it_is(folder: Path) -> None:
    """A program that embeds a plugin has work of its own to do."""
    (folder / "embeds.py").write_text(
        "import sys, threading, os, signal\n"
        "from graphdriver import serve_unix\n"
        "from graphdriver.drivers.vfs.driver import VfsDriver\n"
        "serve_unix(VfsDriver(), sys.argv[1])\n"
    )
    path = f"{folder}/{folder.name}.sock"
    with subprocess.Popen(
        [sys.executable, str(folder / "embeds.py"), path],
        env=environment(),
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr
            while b"serving" not in process.stderr.readline():
                assert process.poll() is None
            assert privileges_of(process.pid) == privileges_of()
        finally:
            process.terminate()


# --- each of them is needed ---------------------------------------------------------------------------

TRY = """\
import json, os, sys, tempfile
from graphdriver.linux.capabilities import keep_only
from graphdriver.serving.privileges import LAYERS
home, wanted, without = sys.argv[1:]
keep_only(LAYERS - {without})

def attempt():
    file = os.path.join(home, "of-another-user")
    if wanted == "CAP_CHOWN":
        os.chown(os.path.join(home, "mine"), 5, 5)
    elif wanted == "CAP_DAC_OVERRIDE":
        os.close(os.open(os.path.join(home, "closed", "new"), os.O_CREAT | os.O_WRONLY))
    elif wanted == "CAP_FOWNER":
        os.chmod(file, 0o600)
    elif wanted == "CAP_FSETID":
        os.chmod(os.path.join(home, "of-another-group"), 0o2755)
        return bool(os.stat(os.path.join(home, "of-another-group")).st_mode & 0o2000)
    elif wanted == "CAP_LINUX_IMMUTABLE":
        from graphdriver.linux.inode_flags import allow_changes_at
        fd = os.open(home, os.O_RDONLY)
        allow_changes_at(fd, b"immutable")
    elif wanted == "CAP_MKNOD":
        os.mknod(os.path.join(home, "node"), 0o20600, os.makedev(1, 3))
    elif wanted == "CAP_SETFCAP":
        value = bytes.fromhex("0100000202000000000000000000000000000000")
        os.setxattr(os.path.join(home, "mine"), "security.capability", value)
    elif wanted == "CAP_SYS_ADMIN":
        return "trusted.note" in os.listxattr(os.path.join(home, "mine"))
    elif wanted == "CAP_SYS_PTRACE":
        os.readlink(f"/proc/{os.getppid()}/ns/mnt")  # it has all
    return True

try:
    print(attempt())
except PermissionError:
    print(False)
"""


def succeeds(home: Path, capability: str, *, without: str) -> bool:
    """Do what a capability is kept for, in a process that keeps all but one; tell whether it works."""
    command = [sys.executable, "-c", TRY, str(home), capability, without]
    done = subprocess.run(command, capture_output=True, env=environment(), check=True)
    return json.loads(done.stdout.lower()) is True


@pytest.mark.parametrize("capability", sorted(KEPT - {"CAP_DAC_READ_SEARCH"}))
def test_without_it_a_layer_could_not_be_kept(tmp_path: Path, capability: str) -> None:
    """CAP_DAC_READ_SEARCH is part of CAP_DAC_OVERRIDE; the kernel asks for it first."""
    for name in ("mine", "of-another-user", "of-another-group", "immutable"):
        (tmp_path / name).touch()
    (tmp_path / "closed").mkdir(0o500)
    os.chown(tmp_path / "of-another-user", 5, 0)
    os.chown(tmp_path / "of-another-group", 0, 5)
    os.chown(tmp_path / "closed", 5, 5)
    os.setxattr(tmp_path / "mine", "trusted.note", b"x")
    subprocess.run(["chattr", "+i", tmp_path / "immutable"], check=True)
    try:
        assert not succeeds(tmp_path, capability, without=capability)
        assert succeeds(tmp_path, capability, without="")
    finally:
        subprocess.run(["chattr", "-i", tmp_path / "immutable"], check=True)
