"""What overlay2 can be told, and what it then tells the kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from graphdriver.drivers.options import parse_size
from graphdriver.drivers.overlay import layers, probe
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import Overlay
from graphdriver.drivers.overlay.options import HomeOptions
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.linux import mount as calls
from graphdriver.linux.mountinfo import MountPoint, mount_points
from tests.drivers.conftest import TakeUp
from tests.drivers.layers import recorded
from tests.support.full import tmpfs

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


def parse(options: Sequence[str]) -> HomeOptions:
    return HomeOptions.parse(options, Overlay2Driver.options, "overlay2")


def mount_of(home: Path, id: str) -> MountPoint:
    point = os.fsencode(home / id / "merged")
    return next(one for one in mount_points() if one.point == point)


def pair(driver: Overlay2Driver) -> str:
    """Make a layer and a container's upon it."""
    driver.create("lower", "", "", {})
    Path(driver.get("lower", ""), "file").write_text("lower")
    driver.create_read_write("upper", "lower", "", {})
    return "upper"


# --- options of a home ----------------------------------------------------------------------------


def test_options_are_read_with_and_without_dockers_prefix() -> None:
    plain = parse(["mountopt=nodev,noexec", "size=10G", "volatile=true"])
    assert plain == HomeOptions(("nodev", "noexec"), 10 << 30, True)
    docker = ["overlay2.mountopt=nodev,noexec", "overlay2.SIZE=10g", "overlay2.volatile=True"]
    assert parse(docker) == plain
    assert parse(["size=1", "size=2"]).size == 2
    assert parse([]) == HomeOptions()


@pytest.mark.parametrize("option", ["override_kernel_check=true", "siez=1G", "dm.fs=xfs", "=", ""])
def test_an_unknown_option_is_refused_with_the_list_of_known_ones(
    home: Path, take_up: TakeUp, option: str
) -> None:
    with pytest.raises(UnsupportedError) as error:
        take_up(option)
    text = str(error.value)
    assert text.startswith(f"overlay2: unknown option {option.partition('=')[0]!r}; ")
    assert all(f"{one.example} ({one.help})" in text for one in Overlay2Driver.options)
    assert os.listdir(home) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1024),
        ("10G", 10 << 30),
        ("512MiB", 512 << 20),
        ("1.5 tb", 3 << 39),
        ("1P", 1 << 50),
    ],
)
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1,5G", "1GG", "ten", "8192P", "9" * 400])
def test_what_is_no_size_is_refused(take_up: TakeUp, text: str) -> None:
    with pytest.raises(UnsupportedError, match="is not a size; write 10G"):
        take_up(f"size={text}")


def test_a_truth_is_true_or_false(take_up: TakeUp) -> None:
    with pytest.raises(UnsupportedError, match="volatile=yes: it must be true or false"):
        take_up("volatile=yes")


# --- mount options --------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", ["fsopen", "mount"])
def test_mount_options_are_those_of_every_mount(
    home: Path, take_up: TakeUp, interface: str
) -> None:
    driver = take_up("mountopt=nodev,noexec,metacopy=off,xino=off")
    driver._layers._mounts._mounter = KernelMounter(str(home), interface)
    upper = pair(driver)
    root = Path(driver.get(upper, ""))
    flags = os.statvfs(root).f_flag
    assert flags & os.ST_NODEV
    assert flags & os.ST_NOEXEC
    assert not flags & os.ST_RDONLY
    driver.put(upper)
    assert os.stat(root.parent).st_mode  # and its directory is as before
    without = take_up()
    flags = os.statvfs(without.get(upper, "")).f_flag
    assert not flags & (os.ST_NODEV | os.ST_NOEXEC)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("metacopy=on", "the driver itself sets metacopy=off"),
        ("redirect_dir=on", "the driver itself sets redirect_dir=nofollow"),
        ("index=on", "the driver itself sets index=off"),
        ("nodev,lowerdir=/etc", "the driver itself sets it"),
        ("upperdir=/etc", "the driver itself sets it"),
        ("userxattr", "the driver itself sets it"),
        ("ro", "the driver itself sets it"),
        ("volatile", "use the option volatile=true"),
    ],
)
def test_mount_options_that_would_make_diffs_wrong_are_refused(
    take_up: TakeUp, option: str, text: str
) -> None:
    with pytest.raises(UnsupportedError, match=text):
        take_up(f"mountopt={option}")


def test_what_the_kernel_refuses_is_told_at_init(home: Path, take_up: TakeUp) -> None:
    with pytest.raises(UnsupportedError) as error:
        take_up("mountopt=nodev,nonsense=1")
    text = str(error.value)
    assert "mounting with mountopt=nodev,nonsense=1 fails" in text
    assert "Unknown parameter 'nonsense'" in text
    assert os.listdir(home) == []


# --- labels ---------------------------------------------------------------------------------------


def test_a_label_becomes_the_context_of_the_mount(
    home: Path, take_up: TakeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the arguments: no kernel that this is tried on has SELinux."""
    told: list[Any] = []
    driver = take_up()
    upper = pair(driver)
    monkeypatch.setattr(calls, "mount_with", lambda *arguments: told.append(arguments))
    driver.get(upper, LABEL)
    fstype, settings, _, _ = told[0]
    assert fstype == "overlay"
    assert ("context", LABEL) in settings
    monkeypatch.setattr(calls, "mount", lambda *arguments: told.append(arguments))
    KernelMounter(str(home), "mount").mount(Overlay(["l"], "m", options=[f"context={LABEL}"]))
    assert told[1][-1].endswith(f',context="{LABEL}"')


def test_a_label_that_the_kernel_does_not_take_is_an_error(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    upper = pair(driver)
    with pytest.raises(
        GraphDriverError, match=r"cannot be mounted on upper/merged: .*Unknown parameter 'context'"
    ):
        driver.get(upper, LABEL)
    assert not (home / upper / "merged").exists()
    assert sorted(recorded(driver, upper)) == [b"file"]


# --- sizes ----------------------------------------------------------------------------------------


def test_a_size_needs_project_quotas(home: Path, take_up: TakeUp) -> None:
    """Only the error: no filesystem that this is tried on has project quotas."""
    driver = take_up()
    pair(driver)
    for create in (driver.create, driver.create_read_write):
        with pytest.raises(UnsupportedError, match=r"no project quotas.*; leave size= out, or"):
            create("limited", "lower", "", {"size": "10G"})
    assert not driver.exists("limited")
    assert len(os.listdir(home / "l")) == 2
    with pytest.raises(UnsupportedError, match="no project quotas"):
        take_up("size=10G")


def test_an_unknown_option_of_a_layer_is_refused(take_up: TakeUp) -> None:
    driver = take_up()
    with pytest.raises(UnsupportedError, match="unknown option 'siez'; it takes size="):
        driver.create("a", "", "", {"siez": "1G"})


def test_the_homes_size_is_for_containers_alone(
    take_up: TakeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: list[tuple[int, list[str]]] = []

    def limit(directories: Sequence[str], size: int) -> None:
        limited.append((size, [os.path.basename(one) for one in directories]))

    for module in (layers, probe):
        monkeypatch.setattr(module, "limit_tree", limit)
    driver = take_up("size=10G")
    limited.clear()
    driver.create("image", "", "", {})
    assert limited == []
    driver.create_read_write("container", "image", "", {})
    driver.create_read_write("first", "", "", {})
    driver.create_read_write("own", "image", "", {"size": "1G"})
    driver.create_read_write("none", "image", "", {"size": "0"})
    assert limited == [
        (10 << 30, ["diff", "work"]),
        (10 << 30, ["diff"]),
        (1 << 30, ["diff", "work"]),
    ]


# --- volatile -------------------------------------------------------------------------------------


def test_only_containers_are_volatile(home: Path, take_up: TakeUp) -> None:
    driver = take_up("volatile=true")
    container = pair(driver)
    driver.create("image", "lower", "", {})
    driver.get(container, "")
    driver.get("image", "")
    assert b"volatile" in mount_of(home, container).options
    assert b"volatile" not in mount_of(home, "image").options


def test_a_volatile_layer_can_be_got_again(home: Path, take_up: TakeUp) -> None:
    driver = take_up("volatile=true")
    container = pair(driver)
    for number in range(3):
        Path(driver.get(container, ""), str(number)).touch()
        driver.put(container)
    # It stays so for its life, whatever the home is told later.
    later = take_up()
    later.get(container, "")
    assert b"volatile" in mount_of(home, container).options
    later.put(container)
    assert sorted(recorded(later, container)) == [b"0", b"1", b"2", b"file"]


def test_a_volatile_layer_that_was_not_unmounted_can_be_got_again_within_a_boot(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up("volatile=true")
    container = pair(driver)
    Path(driver.get(container, ""), "new").touch()
    subprocess.run(["umount", home / container / "merged"], check=True)
    assert (home / container / "work/work/incompat/volatile").exists()
    assert sorted(recorded(take_up(), container)) == [b"file", b"new"]


def test_a_volatile_layer_that_the_machine_went_down_under_is_refused(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up("volatile=true")
    container = pair(driver)
    driver.get(container, "")
    # What is left after a boot: the kernel's mark, and neither mount nor count.
    subprocess.run(["umount", home / container / "merged"], check=True)
    shutil.rmtree(driver._layers._counts._directory)
    driver = take_up("volatile=true")
    for _ in range(2):
        with pytest.raises(
            GraphDriverError, match=r"the machine went down.*; remove the container"
        ):
            driver.get(container, "")
    driver.remove(container)
    driver.create_read_write(container, "lower", "", {})
    assert sorted(recorded(driver, container)) == [b"file"]


def test_a_volatile_layer_is_put_and_got_while_its_filesystem_is_read_only(
    tmp_path: Path, take_up: TakeUp
) -> None:
    with tmpfs(tmp_path / "tmpfs", 1024) as home:
        driver = take_up("volatile=true", home=home)
        container = pair(driver)
        Path(driver.get(container, ""), "new").touch()
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        driver.put(container)
        for each in (driver, take_up("volatile=true", home=home)):
            assert sorted(recorded(each, container)) == [b"file", b"new"]
        subprocess.run(["mount", "-o", "remount,rw", home], check=True)
        Path(driver.get(container, ""), "newer").touch()
        assert b"volatile" in mount_of(home, container).options
        driver.put(container)
        driver.remove(container)
        assert not os.path.exists(f"{driver._layers._counts._directory}/{container}")
        driver.cleanup()
