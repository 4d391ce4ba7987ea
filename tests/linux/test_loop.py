from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver.errors import InUseError, UnsupportedError
from graphdriver.linux import loop
from tests.support.filesystems import loop as filesystem
from tests.support.ground import require
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def root() -> None:
    require(os.geteuid() == 0, "loop devices need root")


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    """A file of three blocks, open."""
    path = tmp_path / "image"
    path.write_bytes(b"".join(bytes([one]) * loop.BLOCK for one in b"abc"))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)
    expect_detached(path)


def expect_detached(path: Path) -> None:
    """Expect that a file is attached to no device, soon."""
    # Whoever looks through all devices at this moment, as losetup does, has it open for an instant.
    wait_until(lambda: files_of(path) == [])


def files_of(path: Path) -> list[str]:
    """Return the devices that a file is attached to."""
    command = ["losetup", "--associated", str(path), "--noheadings", "--output", "NAME"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def told(device: str, name: str) -> str:
    return Path("/sys/block", os.path.basename(device), name).read_text().strip()


def test_a_device_shows_the_file_read_only_in_blocks_of_512_bytes(image: int) -> None:
    with loop.attached(image) as device:
        assert Path(device).read_bytes() == os.pread(image, 4096, 0)
        assert told(device, "ro") == "1"
        assert told(device, "queue/logical_block_size") == "512"


def test_a_device_lasts_as_long_as_somebody_uses_it(image: int, tmp_path: Path) -> None:
    with loop.attached(image) as device:
        user = os.open(device, os.O_RDONLY)
    assert files_of(tmp_path / "image") == [device]
    os.close(user)
    expect_detached(tmp_path / "image")


def test_a_killed_process_leaves_no_device(image: int, tmp_path: Path) -> None:
    script = (
        "import os; from graphdriver.linux import loop\n"
        f"with loop.attached({image}) as device: os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], pass_fds=[image], check=False)
    assert done.returncode == -9
    expect_detached(tmp_path / "image")


def test_the_disk_below_may_have_larger_blocks(tmp_path: Path) -> None:
    with filesystem("ext4-on-4k-blocks", tmp_path) as place:
        (place / "image").write_bytes(b"x" * 8192)
        with open(place / "image", "rb") as file, loop.attached(file.fileno()) as device:
            assert told(device, "queue/logical_block_size") == "512"
            assert Path(device).read_bytes() == b"x" * 8192


def test_many_at_once_get_a_device_each(image: int) -> None:
    """Each found the same free device, and all but one of them are refused it."""
    found: list[str] = []
    all_there = threading.Barrier(8)

    def attach() -> None:
        with loop.attached(image) as device:
            found.append(device)
            all_there.wait()

    threads = [threading.Thread(target=attach) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_a_device_that_was_taken_meanwhile_is_left_to_its_user(
    image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ioctl: Any = fcntl.ioctl
    with loop.attached(image) as taken:
        numbers = [int(taken.removeprefix("/dev/loop"))] * 3

        def answer(fd: int, request: int, *arguments: Any) -> Any:
            if request == loop._CTL_GET_FREE and numbers:
                return numbers.pop()
            return ioctl(fd, request, *arguments)

        monkeypatch.setattr(fcntl, "ioctl", answer)
        with loop.attached(image) as device:
            assert device != taken
        numbers += [int(taken.removeprefix("/dev/loop"))] * 1000
        with pytest.raises(InUseError, match="other processes took a free loop device first, 100"):
            loop.attached(image).__enter__()


WAY_OUT = "docker run --privileged -v /dev:/dev"


def test_a_machine_without_loop_devices_is_told_of(
    image: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CONTROL", str(tmp_path / "loop-control"))
    text = f"a loop device is needed, and {tmp_path}/loop-control does not exist; .*{WAY_OUT}"
    with pytest.raises(UnsupportedError, match=text):
        loop.attached(image).__enter__()


def test_a_container_without_the_free_device_s_node_is_told_of(
    image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_node", lambda number: f"/dev/missing{number}")
    with pytest.raises(UnsupportedError, match=f"/dev/missing[0-9]+ does not exist; .*{WAY_OUT}"):
        loop.attached(image).__enter__()


def test_a_process_that_may_not_open_loop_devices_is_told_so(
    image: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose devices are restricted: here by a mount on which none can be opened."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev", "tmpfs", tmp_path], check=True)
    try:
        os.mknod(tmp_path / "loop-control", 0o600 | stat.S_IFCHR, os.stat(loop.CONTROL).st_rdev)
        monkeypatch.setattr(loop, "CONTROL", str(tmp_path / "loop-control"))
        with pytest.raises(UnsupportedError, match=r"loop-control cannot be opened \(Permission d"):
            loop.attached(image).__enter__()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_kernel_that_configures_in_several_steps_is_told_of(
    image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_CONFIGURE", 0x4CFF)  # as unknown to this kernel as that was before
    with pytest.raises(UnsupportedError, match=r"LOOP_CONFIGURE.*use Linux 5\.8 or later"):
        loop.attached(image).__enter__()
