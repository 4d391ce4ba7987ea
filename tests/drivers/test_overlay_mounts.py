"""When overlay2 mounts and unmounts: counts, restarts, and who keeps a mount busy."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.drivers.overlay import mounts as layer_mounts
from graphdriver.drivers.overlay.mounts import LayerMounts
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import GraphDriverError, LayerDamagedError, LayerNotFoundError
from graphdriver.linux.mount import unmount
from graphdriver.linux.mountinfo import MountPoint, mount_points
from tests.drivers.conftest import TakeUp
from tests.drivers.layers import recorded
from tests.support.full import tmpfs

TAR = tars.tar(tars.file(b"applied", b"x"))


def mounts_in(home: Path) -> list[MountPoint]:
    return [one for one in mount_points() if one.point.startswith(os.fsencode(home) + b"/")]


def is_mounted(home: Path, id: str) -> bool:
    return any(one.point == os.fsencode(home / id / "merged") for one in mounts_in(home))


def counts(driver: Overlay2Driver) -> list[Path]:
    """Return the files of counts of a driver's layers."""
    directory = Path(driver._layers._counts._directory)
    found = directory.iterdir() if directory.exists() else ()
    return [path for path in found if not path.name.startswith(".")]


def pair(driver: Overlay2Driver) -> str:
    """Make a layer and one upon it; return the upper one."""
    upper = "upper"
    driver.create("lower", "", "", {})
    Path(driver.get("lower", ""), "file").write_text("lower")
    driver.create_read_write(upper, "lower", "", {})
    return upper


def test_a_count_without_a_mount_is_removed_at_the_next_start(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    gone = pair(driver)
    driver.create_read_write("stays", "lower", "", {})
    driver.get("stays", "")
    unmount(driver.get(gone, ""))  # a plugin that is killed there does not remove the count
    assert {path.name for path in counts(driver)} == {gone, "stays"}
    assert {path.name for path in counts(take_up())} == {"stays"}


def test_a_layer_on_nothing_is_never_mounted(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    driver.create("a", "", "", {})
    assert driver.get("a", "") == f"{home}/a/diff"
    assert mounts_in(home) == []


def test_the_last_put_unmounts_and_the_merged_directory_is_gone(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    upper = pair(driver)
    for _ in range(3):
        assert driver.get(upper, "") == f"{home}/{upper}/merged"
    assert len(mounts_in(home)) == 1
    for _ in range(2):
        driver.put(upper)
        assert is_mounted(home, upper)
    driver.put(upper)
    assert not is_mounted(home, upper)
    assert not (home / upper / "merged").exists()
    assert counts(driver) == []
    driver.put(upper)  # one too many changes nothing
    driver.get(upper, "")
    assert is_mounted(home, upper)


def test_a_restarted_plugin_knows_how_often_a_layer_was_got(home: Path, take_up: TakeUp) -> None:
    first = take_up()
    upper = pair(first)
    first.get(upper, "")
    first.get(upper, "")
    second = take_up()
    second.put(upper)
    assert is_mounted(home, upper)
    second.put(upper)
    assert not is_mounted(home, upper)


def test_a_restarted_plugin_finds_what_was_mounted_on_a_read_only_filesystem(
    tmp_path: Path, take_up: TakeUp
) -> None:
    with tmpfs(tmp_path / "tmpfs", 1024) as home:
        first = take_up(home=home)
        upper = pair(first)
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        got = first.get(upper, "")
        assert got == f"{home}/{upper}/work"
        first.get(upper, "")
        for driver in (take_up(home=home), take_up(home=home)):
            assert driver.get_metadata(upper)["MergedDir"] == got
            driver.put(upper)
        assert mounts_in(home) == []
        subprocess.run(["mount", "-o", "remount,rw", home], check=True)
        assert driver.get(upper, "") == f"{home}/{upper}/merged"
        driver.put(upper)
        driver.remove(upper)


def test_a_directory_left_by_a_kill_is_mounted_on_unless_nothing_can_be_written(
    tmp_path: Path, take_up: TakeUp
) -> None:
    with tmpfs(tmp_path / "tmpfs", 1024) as home:
        driver = take_up(home=home)
        upper = pair(driver)
        (home / upper / "merged").mkdir()
        assert driver.get(upper, "") == f"{home}/{upper}/merged"
        driver.put(upper)
        (home / upper / "merged").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        assert driver.get(upper, "") == f"{home}/{upper}/work"
        driver.put(upper)
        assert mounts_in(home) == []


def test_a_get_that_fails_leaves_no_directory(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    upper = pair(driver)
    (home / upper / "diff").rename(home / "elsewhere")
    with pytest.raises(LayerDamagedError, match=r"its directory diff was lost"):
        driver.get(upper, "")
    assert not (home / upper / "merged").exists()


def test_the_last_put_looks_only_where_it_is_not_sure(
    home: Path, take_up: TakeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = take_up()
    upper = pair(driver)
    looks: list[str] = []
    look = LayerMounts.point

    def point(mounts: LayerMounts, id: str) -> str:
        looks.append(id)
        return look(mounts, id)

    driver.get(upper, "")
    with monkeypatch.context() as patched:
        patched.setattr(LayerMounts, "point", point)
        driver.put(upper)
        assert looks == []
        driver.put(upper)
        assert looks == [upper]
    driver.get(upper, "")
    subprocess.run(["umount", home / upper / "merged"], check=True)
    driver.put(upper)  # somebody else has unmounted it
    assert counts(driver) == []
    driver.get(upper, "")
    driver.get(upper, "")
    subprocess.run(["umount", home / upper / "merged"], check=True)
    driver.put(upper)
    assert counts(driver) == []
    with pytest.raises(LayerNotFoundError):
        driver.put("no-such-layer")


def test_under_a_new_daemon_what_is_mounted_was_got_once(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    upper = pair(driver)
    for _ in range(3):
        driver.get(upper, "")
    driver._layers.daemon_began()
    # As a daemon does for each container that lived on.
    driver.get(upper, "")
    driver.put(upper)
    assert is_mounted(home, upper)
    driver.put(upper)
    assert not is_mounted(home, upper)


@pytest.mark.parametrize(
    "text", [None, "", "no count", "0" * 36 + " 5", "{boot} x", "{boot} 0"], ids=repr
)
def test_a_mount_whose_count_was_lost_was_got_once(
    home: Path, take_up: TakeUp, text: str | None
) -> None:
    first = take_up()
    upper = pair(first)
    first.get(upper, "")
    first.get(upper, "")
    (count,) = counts(first)
    boot, _, number = count.read_text().partition(" ")
    assert number.strip() == "2"
    if text is None:
        count.unlink()
    else:
        count.write_text(text.format(boot=boot))
    second = take_up()
    second.get(upper, "")
    second.put(upper)
    assert is_mounted(home, upper)
    second.put(upper)
    assert not is_mounted(home, upper)


def test_a_count_without_a_mount_holds_nothing(home: Path, take_up: TakeUp) -> None:
    first = take_up()
    upper = pair(first)
    first.get(upper, "")
    first.get(upper, "")
    subprocess.run(["umount", home / upper / "merged"], check=True)
    second = take_up()
    second.get(upper, "")
    second.put(upper)
    assert not is_mounted(home, upper)


def test_remove_and_cleanup_ask_for_no_count(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    upper = pair(driver)
    driver.create_read_write("other", "lower", "", {})
    for id in (upper, "other"):
        driver.get(id, "")
        driver.get(id, "")
    driver.remove(upper)
    assert not is_mounted(home, upper)
    assert is_mounted(home, "other")
    driver.cleanup()
    assert mounts_in(home) == []
    assert counts(driver) == []


def test_a_layer_that_has_a_child_is_mounted_without_an_upper_directory(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    upper = pair(driver)
    Path(driver.get(upper, ""), "mine").touch()
    driver.put(upper)
    driver.create("child", upper, "", {})
    assert (home / upper / "committed").exists()
    root = Path(driver.get(upper, ""))
    assert {path.name for path in root.iterdir()} == {"file", "mine"}
    with pytest.raises(OSError, match="Read-only"):
        (root / "new").touch()
    (mount,) = mounts_in(home)
    assert b"upperdir" not in mount.options


def test_no_mount_shows_or_keeps_more_than_its_layers(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    driver.get(pair(driver), "")
    (mount,) = mounts_in(home)
    assert b"redirect_dir=nofollow" in mount.options
    assert not {b"index=on", b"metacopy=on", b"volatile"} & {*mount.options.split(b",")}


# --- busy mounts ----------------------------------------------------------------------------------


@contextlib.contextmanager
def process(*command: str, cwd: str | None = None) -> Iterator[int]:
    """Run a process that sleeps until the block is over; it has begun."""
    script = "echo; exec sleep 600"
    with subprocess.Popen(
        [*command, "sh", "-c", script], cwd=cwd, stdout=subprocess.PIPE
    ) as running:
        try:
            assert running.stdout
            running.stdout.readline()
            yield running.pid
        finally:
            running.kill()


def test_a_busy_mount_goes_lazily_and_the_log_names_who_holds_it(
    home: Path, take_up: TakeUp, caplog: pytest.LogCaptureFixture
) -> None:
    driver = take_up()
    upper = pair(driver)
    merged = driver.get(upper, "")
    with process("unshare", "--mount") as other, process(cwd=merged) as inside:
        namespace = os.readlink(f"/proc/{other}/ns/mnt")
        with open(f"{merged}/file", encoding="utf-8") as file, caplog.at_level(logging.WARNING):
            driver.put(upper)
            assert file.read() == "lower"
            descriptor = file.fileno()
        assert not is_mounted(home, upper)
        assert not Path(merged).exists()
        (message,) = caplog.messages
        assert message.startswith(f"{merged} is busy: ")
        assert message.endswith("; unmounted lazily")
        for who in (
            f"process {inside} (sleep) has its cwd there",
            f"process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"
            f" has descriptor {descriptor} there",
            f"{namespace} of process {other} (sleep) has it mounted",
        ):
            assert who in message
        assert Path(driver.get(upper, ""), "file").read_text() == "lower"


def test_a_busy_layer_can_be_removed(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    upper = pair(driver)
    merged = driver.get(upper, "")
    with process(cwd=merged):
        driver.remove(upper)
    assert not driver.exists(upper)
    assert mounts_in(home) == []
    driver.create(upper, "lower", "", {})
    assert sorted(recorded(driver, upper)) == [b"file"]


def test_one_layer_that_cannot_be_unmounted_holds_up_no_other(
    home: Path,
    take_up: TakeUp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = take_up()
    upper = pair(driver)
    others = [f"other{number}" for number in range(5)]
    for id in others:
        driver.create_read_write(id, "lower", "", {})
    for id in (upper, *others):
        driver.get(id, "")

    def fail(target: str, flags: int = 0) -> None:
        if upper in target:
            raise OSError(5, "Input/output error")
        unmount(target, flags)

    monkeypatch.setattr(layer_mounts, "unmount", fail)
    with pytest.raises(GraphDriverError, match=f"cannot be unmounted: {upper} .Input/output error"):
        driver.cleanup()
    assert [os.fsdecode(one.point) for one in mounts_in(home)] == [f"{home}/{upper}/merged"]
    with pytest.raises(OSError, match="Input/output"):
        driver.remove(upper)
    assert driver.exists(upper)
    driver.remove(others[0])
    driver.create("new", "lower", "", {})
    monkeypatch.undo()
    caplog.clear()


def test_a_layer_whose_unmount_takes_long_holds_up_no_other(
    home: Path, take_up: TakeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = take_up()
    upper = pair(driver)
    driver.get(upper, "")
    begun, may_end = threading.Event(), threading.Event()

    def wait(target: str, flags: int = 0) -> None:
        if upper in target:
            begun.set()
            assert may_end.wait(60)
        unmount(target, flags)

    monkeypatch.setattr(layer_mounts, "unmount", wait)
    removing = threading.Thread(target=driver.remove, args=(upper,))
    removing.start()
    assert begun.wait(60)
    making = threading.Thread(target=driver.create, args=("other", "lower", "", {}), daemon=True)
    making.start()
    making.join(30)
    assert driver.exists("other")
    may_end.set()
    removing.join()
    assert not driver.exists(upper)


# --- a layer that is applied to after it was got --------------------------------------------------


@pytest.mark.parametrize("is_held", [False, True])
def test_a_layer_that_was_written_to_can_be_applied_to(
    home: Path, take_up: TakeUp, is_held: bool
) -> None:
    driver = take_up()
    upper = pair(driver)
    Path(driver.get(upper, ""), "written").touch()
    if not is_held:
        driver.put(upper)
    data = tars.tar(tars.file(b"applied", b"x"), tars.whiteout(b".wh.file"))
    driver.apply_diff(upper, "lower", io.BytesIO(data))
    assert sorted(recorded(driver, upper)) == [b"applied", b"written"]
    assert is_mounted(home, upper) == is_held


def test_a_layer_that_is_mounted_is_applied_to_through_its_mount(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    upper = pair(driver)
    root = Path(driver.get(upper, ""))
    assert not (root / "applied").exists()  # a mount remembers that it has no such file
    driver.apply_diff(upper, "lower", io.BytesIO(TAR))
    assert (root / "applied").read_bytes() == b"x"


@pytest.mark.parametrize("is_mounted", [False, True])
def test_no_tar_can_bring_overlayfs_a_deletion(
    home: Path, take_up: TakeUp, is_mounted: bool
) -> None:
    driver = take_up()
    upper = pair(driver)
    if is_mounted:
        driver.get(upper, "")
    tar = tars.tar(tars.header(b"file", b"3"), tars.file(b"new"), tars.header(b"new", b"3"))
    driver.apply_diff(upper, "lower", io.BytesIO(tar))
    shown = recorded(driver, upper)
    assert shown == recorded(driver, "lower")
    assert list(driver.changes(upper, "lower")) == []


def test_a_layer_that_others_stand_on_is_not_applied_to(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    upper = pair(driver)
    driver.create("child", upper, "", {})
    with pytest.raises(GraphDriverError, match="the layer is the parent of layer child"):
        driver.apply_diff(upper, "lower", io.BytesIO(TAR))
    assert sorted(recorded(driver, "child")) == [b"file"]
