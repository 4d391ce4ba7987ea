"""A home after a kill at any instruction, and on a full disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.driver import IDMap
from graphdriver.errors import InUseError, UnsupportedError
from graphdriver.serving.home import Home

MAPS = (IDMap(0, 100_000, 65_536),)


def test_a_home_lets_the_group_of_containers_through_and_nobody_else(tmp_path: Path) -> None:
    home = tmp_path / "above" / "home"
    Home(str(home), MAPS).close()
    found = home.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o710, 0, 100_000)
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o711


def test_a_home_that_a_kill_left_without_its_group_gets_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o710)
    Home(str(home), MAPS).close()
    assert home.stat().st_gid == 100_000


def test_a_home_hands_on_nothing_of_the_directory_that_it_is_in(tmp_path: Path) -> None:
    """So whatever a driver makes in it has the permissions that the driver says."""
    subprocess.run(["setfacl", "-d", "-m", "u:1000:rwx", str(tmp_path)], check=True)
    os.chmod(tmp_path, 0o2775)
    Home(str(tmp_path / "home")).close()
    (tmp_path / "home/layer").mkdir(0o755)
    for path in (tmp_path / "home", tmp_path / "home/layer"):
        assert os.listxattr(path) == []
        assert not path.stat().st_mode & stat.S_ISGID


def test_a_mark_outlives_its_process_and_goes_with_its_layer(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "home"))
    home.mark("there")
    home.mark("gone")  # killed between the driver's Remove and the mark's
    home.close()
    again = Home(str(tmp_path / "home"))
    assert again.is_unfinished("there")
    again.unmark_all_but("there".__eq__)
    assert again.is_unfinished("there")
    assert not again.is_unfinished("gone")
    again.close()
    assert os.listdir(tmp_path / "home/.graphdriver/applying") == ["there"]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB."""
    path = tmp_path / "tiny"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tiny", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.root
def test_a_full_disk_keeps_nobody_from_a_home_that_is_there(tiny: Path) -> None:
    home = Home(str(tiny / "home"))
    home.claim("docker", "any", 1)
    home.bind(exact_diffs=False)
    home.close()
    with pytest.raises(OSError, match="No space"), open(tiny / "rest", "wb", buffering=0) as rest:
        while True:
            rest.write(b"x" * 512)
    again = Home(str(tiny / "home"))
    again.claim("docker", "any", 1)
    again.bind(exact_diffs=False)
    with pytest.raises(InUseError, match=f"is in use by process {os.getpid()}; stop it"):
        Home(str(tiny / "home"))
    again.close()


OTHERS = {
    "the directory of Docker's own overlay2 or fuse-overlayfs driver": ["l/X", "4f0c/diff/x"],
    "the directory of Docker's own btrfs driver": ["subvolumes/4f0c/x"],
    "the directory of Docker's own vfs driver": ["dir/4f0c/x"],
    "the data root of a Docker daemon": ["image/x", "volumes/x", "overlay2/l/X"],
    "the root of one of containerd's own snapshotters": ["metadata.db", "snapshots/1/fs/x"],
    "the root of a containerd": ["io.containerd.content.v1.content/x", "tmpmounts/x"],
    "a directory that holds '.profile', '.ssh'": [".ssh/id", ".profile", "lost+found/x"],
    "a directory that holds 'a', 'b', 'c', …": ["a", "b", "c", "d", "e"],
    # Its own identity was lost, and with it whose layers these are.
    "a directory that holds '4f0c'": ["4f0c/root/x", ".graphdriver/lock", ".trash/x"],
}


def laid_out(path: Path, files: list[str]) -> Path:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text("theirs")
    path.chmod(0o755)
    return path


def looks(path: Path) -> list[tuple[str, int, int, int]]:
    found = [(one, one.lstat()) for one in sorted([path, *path.rglob("*")])]
    return [(str(one), there.st_mode, there.st_gid, there.st_mtime_ns) for one, there in found]


@pytest.mark.parametrize("what", OTHERS)
def test_the_files_of_others_are_no_home_and_nothing_is_written_there(
    tmp_path: Path, what: str
) -> None:
    path = laid_out(tmp_path / "theirs", OTHERS[what])
    before = looks(path)
    with pytest.raises(UnsupportedError) as refused:
        Home(str(path), MAPS)
    said = f"{path} cannot be the home: it is {what}, and has no .graphdriver/home.json; "
    assert str(refused.value).startswith(said)
    assert looks(path) == before


@pytest.mark.parametrize("what", OTHERS)
def test_a_directory_is_taken_over_on_purpose_and_known_from_then_on(
    tmp_path: Path, what: str
) -> None:
    path = laid_out(tmp_path / "theirs", OTHERS[what])
    home = Home(str(path), adopt=True)
    home.claim("docker", "any", 1)
    home.close()
    Home(str(path)).close()


@pytest.mark.parametrize(
    "left",
    [[], [".staging/x"], [".trash/x"], [".overlay-probe/x"], [".btrfs-probe/x"], ["lost+found/x"]],
    ids="".join,
)
def test_what_a_kill_or_mkfs_left_is_no_reason_to_refuse(tmp_path: Path, left: list[str]) -> None:
    path = laid_out(tmp_path / "home", left) if left else tmp_path
    Home(str(path)).close()


def test_what_a_kill_before_the_claim_left_is_no_reason_to_refuse(tmp_path: Path) -> None:
    Home(str(tmp_path / "home")).close()
    Home(str(tmp_path / "home")).close()


@pytest.mark.root
@pytest.mark.parametrize("name", ["", ".graphdriver", ".graphdriver/applying"])
def test_a_home_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    Home(str(home)).close()
    os.chown(home / name, 1000, -1)
    with pytest.raises(UnsupportedError, match="belongs to user 1000, who can change everything"):
        Home(str(home))


@pytest.mark.parametrize("name", ["", ".graphdriver", ".graphdriver/applying"])
def test_a_home_that_others_may_write_to_is_taken_from_them_and_that_is_logged(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    Home(str(home)).close()
    assert caplog.text == ""
    own = home / name
    own.chmod(0o777)
    Home(str(home)).close()
    assert stat.S_IMODE(own.stat().st_mode) & 0o027 == 0
    assert f"{own} had mode 0777, which let other users write to it" in caplog.text


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Home(str(home)).close()
    (home / ".graphdriver/lock").unlink()
    (home / ".graphdriver/lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Home(str(home))
    assert not (tmp_path / "elsewhere").exists()


def test_a_home_is_locked_where_only_files_that_are_open_for_writing_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is on NFS."""

    def on_nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, operation)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", on_nfs)
    before = os.listdir("/proc/self/fd")
    home = Home(str(tmp_path / "home"))
    with pytest.raises(InUseError, match=f"is in use by process {os.getpid()}"):
        Home(str(tmp_path / "home"))
    assert home.is_current()
    home.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    Home(str(tmp_path / "home")).close()


def test_a_home_knows_whether_its_path_leads_to_it(tmp_path: Path) -> None:
    path = tmp_path / "home"
    home = Home(str(path))
    assert home.is_current()
    path.rename(tmp_path / "aside")
    assert not home.is_current()
    Home(str(path)).close()
    assert not home.is_current()
    shutil.rmtree(path)
    (tmp_path / "aside").rename(path)
    assert home.is_current()
    home.close()


@pytest.mark.root
def test_a_home_that_something_is_mounted_over_is_another(tiny: Path) -> None:
    home = Home(str(tiny / "home"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "other", tiny], check=True)
    try:
        assert not home.is_current()
        other = Home(str(tiny / "home"))
        assert other.is_current()
        other.close()
    finally:
        subprocess.run(["umount", tiny], check=True)
    assert home.is_current()
    home.close()


@pytest.mark.parametrize("call", ["open", "unlink", "fsync"])
def test_a_mark_that_cannot_be_taken_off_for_good_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    home = Home(str(tmp_path / "home"))
    home.mark("layer")
    filesystem = home.open()

    def fail(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="Input/output"):
        broken.setattr(os, call, fail)
        home.unmark_synced("layer", filesystem)
    assert home.is_unfinished("layer")
    assert os.listdir(tmp_path / "home/.graphdriver/applying") == ["layer"]
    home.unmark_synced("layer", filesystem)
    assert not home.is_unfinished("layer")
    os.close(filesystem)
    home.close()
