"""Layers hold what their tars say, whatever the directories above them give to what is made in them."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from graphdriver.linux import projects
from tests.drivers.every import serving
from tests.drivers.layers import apply, layer, read_diff

Facts = tuple[str, tuple[int, int], set[str]]
"""Mode, owner, and the names of attributes."""

GROUP = 1234


def make_layers(driver: Driver) -> None:
    """Make layers in each way that files come into them: by tars, by copies, and by containers."""
    base = (
        tars.directory(b"d"),
        tars.file(b"d/f", b"x"),
        tars.file(b"d/gone", b"x"),
        tars.directory(b"d/gone-too"),
        tars.directory(b"shared", mode=0o2775, gid=7),
        tars.file(b"shared/f", b"x", mode=0o4711, uid=5),
        tars.symlink(b"s", b"d"),
        tars.header(b"p", b"6"),
        tars.file(b"not/named/above", b"x"),
    )
    apply(driver, "base", "", tars.tar(*base))
    upper = (
        tars.file(b"d/new", b"x"),
        tars.file(b"shared/new", b"x"),
        tars.directory(b"shared/sub"),
        tars.hard_link(b"h", b"d/f"),
        tars.whiteout(b"not/.wh.named"),
    )
    apply(driver, "upper", "base", tars.tar(*upper))
    layer(driver, "container", "upper", write_into)
    apply(driver, "upon", "container", tars.tar(tars.file(b"last", b"x")))


def write_into(root: Path) -> None:
    """Write into a layer as a container does: what is below is copied up, deleted and made anew."""
    with open(root / "d/f", "ab") as file:
        file.write(b"more")
    os.chmod(root / "shared/f", 0o600)
    (root / "d/gone").unlink()
    (root / "d/gone").write_bytes(b"anew")
    (root / "d/gone-too").rmdir()
    (root / "d/gone-too").mkdir()
    (root / "shared/dir/in").mkdir(parents=True)
    (root / "made").mkdir(mode=0o755)
    (root / "made/f").write_bytes(b"x")


def seen(driver: Driver, id: str) -> dict[str, Facts]:
    """Return what layers show: of the root too, and but for content and times."""
    found: dict[str, Facts] = {}
    with mounted(driver, id) as path:
        root = Path(path)
        for one in (root, *root.rglob("*")):
            told = one.lstat()
            attributes = os.listxattr(one, follow_symlinks=False)
            found[str(one.relative_to(root))] = (
                oct(told.st_mode),
                (told.st_uid, told.st_gid),
                {name for name in attributes if not name.startswith("btrfs.")},
            )
    return found


def told(driver: Driver, id: str, parent: str) -> dict[str, Facts]:
    """Return what a layer's Diff says, but for content and times."""
    with tarfile.open(fileobj=io.BytesIO(read_diff(driver, id, parent))) as tar:
        return {
            one.name: (oct(one.mode), (one.uid, one.gid), {*one.pax_headers} - {"mtime", "path"})
            for one in tar
        }


def everything(driver: Driver) -> object:
    parents = {"base": "", "upper": "base", "container": "upper", "upon": "container"}
    return {
        id: (
            seen(driver, id),
            told(driver, id, ""),
            told(driver, id, parent),
            list(driver.changes(id, parent)),
        )
        for id, parent in parents.items()
    }


def as_they_are(name: str, home: Path) -> object:
    home.mkdir(mode=0o710)
    with serving(name, home) as driver:
        make_layers(driver)
        return everything(driver)


def gives_an_access_control_list(directory: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:1000:rwx", str(directory)], check=True)


def gives_its_group(directory: Path) -> None:
    os.chown(directory, 0, GROUP)
    os.chmod(directory, 0o2775)


@pytest.mark.parametrize("give", [gives_an_access_control_list, gives_its_group])
@pytest.mark.parametrize("when", ["before the first start", "later"])
def test_layers_take_nothing_from_the_directory_that_they_are_in(
    name: str, data_root: Path, give: Callable[[Path], None], when: str
) -> None:
    (data_root / "plain").mkdir()
    (data_root / "giving").mkdir()
    home = data_root / "giving/home"
    if when == "later":
        home.mkdir()
        with serving(name, home) as driver:
            apply(driver, "earlier", "", tars.tar())
        for inner in (home, *(one for one in home.iterdir() if one.is_dir())):
            give(inner)
    else:
        give(data_root / "giving")
        home.mkdir(mode=0o710)
    with serving(name, home) as driver:
        make_layers(driver)
        found = everything(driver)
    assert found == as_they_are(name, data_root / "plain/home")


# --- what is set for storage ----------------------------------------------------------------------


def compresses(directory: Path) -> None:
    os.setxattr(directory, "btrfs.compression", b"zstd")


def writes_in_place(directory: Path) -> None:
    subprocess.run(["chattr", "+C", str(directory)], check=True)


def is_synced(directory: Path) -> None:
    subprocess.run(["chattr", "+SD", str(directory)], check=True)


@pytest.mark.parametrize("set_up", [compresses, writes_in_place, is_synced])
@pytest.mark.parametrize("name", ["vfs", "overlay2", "btrfs"])
def test_what_is_set_on_the_home_stays_and_is_in_no_diff(
    name: str, btrfs: Path, set_up: Callable[[Path], None]
) -> None:
    with tempfile.TemporaryDirectory(dir=btrfs, prefix="gd-") as path:
        home = Path(path, "home")
        home.mkdir()
        with serving(name, home) as driver:
            apply(driver, "older", "", tars.tar(tars.file(b"f", b"x" * 5000), tars.directory(b"d")))
            for directory in (home, *(home / inner for inner in os.listdir(home))):
                if directory.is_dir():
                    set_up(directory)
            before = how_it_is_stored(home)
            apply(driver, "newer", "older", tars.tar(tars.file(b"g"), tars.file(b"d/new")))
            changed = [change.path for change in driver.changes("newer", "older")]
            assert changed == ["/d", "/d/new", "/g"]
            assert {*told(driver, "newer", "older")} == {"d", "d/new", "g"}
            make_layers(driver)
            found = everything(driver)
            for id in ("upon", "newer", "older"):
                driver.remove(id)
            assert how_it_is_stored(home) == before
        assert os.listdir(home / ".trash") == []
        assert found == as_they_are(name, Path(path, "plain"))


def how_it_is_stored(directory: Path) -> object:
    done = subprocess.run(["lsattr", "-d", str(directory)], check=True, capture_output=True)
    return done.stdout, os.listxattr(directory)


def test_xfs_lists_each_access_control_list_twice_and_a_diff_says_it_once(xfs: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir=xfs, prefix="gd-") as path,
        serving("vfs", Path(path)) as one,
    ):
        layer(one, "a", "", lambda root: (root / "f").touch())
        with mounted(one, "a") as root:
            subprocess.run(["setfacl", "-m", "u:1000:rwx", f"{root}/f"], check=True)
            assert "trusted.SGI_ACL_FILE" in os.listxattr(f"{root}/f")
        assert told(one, "a", "")["f"][2] == {"SCHILY.xattr.system.posix_acl_access"}


def test_a_project_of_the_home_stops_neither_create_nor_remove(xfs: Path) -> None:
    """The kernel moves nothing into a directory that hands on another project (xfs_rename)."""
    for is_set_before in (True, False):
        with tempfile.TemporaryDirectory(dir=xfs, prefix="gd-") as path:
            home = Path(path)
            if is_set_before:
                hand_on(home, 5)
            with serving("vfs", home) as driver:
                apply(driver, "old", "", tars.tar(tars.file(b"f")))
                for directory in (home, home / ".trash", home / ".staging"):
                    hand_on(directory, 6)
                apply(driver, "new", "old", tars.tar(tars.file(b"g")))
                assert project_of(home / "new/root/f") == 6
                driver.remove("old")
                driver.remove("new")
            assert os.listdir(home / ".trash") == []
            assert project_of(home) == 6


def hand_on(directory: Path, project: int) -> None:
    subprocess.run(
        ["xfs_io", "-c", f"chproj {project}", "-c", "chattr +P", str(directory)], check=True
    )


def project_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return projects.attributes_of(fd).project
    finally:
        os.close(fd)
