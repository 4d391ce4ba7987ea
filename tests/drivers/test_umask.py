"""What a layer holds does not depend on the umask of whoever keeps it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver, NaiveDiffDriver, ProtoDriver
from graphdriver.driver import mounted
from graphdriver.drivers.loading import make
from tests.support.documented import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

DRIVERS = {
    "vfs": "vfs",
    "overlay2": "overlay2",
    "erofs": "erofs",
    "btrfs": "btrfs",
    "fuse-overlayfs": "fuse-overlayfs",
    "plain_folders": "plain_folders:PlainFolders",
    "keeps_tars": "keeps_tars:KeepsTars",
}


def tar() -> bytes:
    """A directory, a file in one that no entry makes, and links: each with a mode of its own."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, type, mode in (
            ("open", tarfile.DIRTYPE, 0o777),
            ("open/file", tarfile.REGTYPE, 0o666),
            ("made/by/nobody", tarfile.REGTYPE, 0o4755),
            ("fifo", tarfile.FIFOTYPE, 0o622),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode = type, mode
            archive.addfile(member)
        link = tarfile.TarInfo("hard")
        link.type, link.linkname = tarfile.LNKTYPE, "open/file"
        archive.addfile(link)
    return data.getvalue()


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(root: str) -> dict[str, str]:
    found = {".": oct(os.stat(root).st_mode)}
    for path in sorted(Path(root).rglob("*")):
        found[str(path.relative_to(root))] = oct(path.lstat().st_mode)
    return found


def kept(name: str, home: Path, mask: int) -> list[dict[str, str]]:
    """Return the modes of a layer that was applied to, of its child, and of one that was written to."""
    with umask(mask):
        made: ProtoDriver = make(DRIVERS[name])
        driver = made if isinstance(made, Driver) else NaiveDiffDriver(made)
        home.mkdir(0o710)
        driver.init(str(home), [], [], [])
        found = []
        driver.create("base", "", "", {})
        driver.apply_diff("base", "", io.BytesIO(tar()))
        driver.create("child", "base", "", {})
        driver.create_read_write("top", "child", "", {})
        for id in ("base", "child", "top"):
            with mounted(driver, id) as root:
                if id == "top":
                    with open(f"{root}/open/file", "ab") as file:
                        file.write(b"written")
                found.append(modes(root))
        driver.cleanup()
        for id in ("top", "child", "base"):
            driver.remove(id)
        return found


@pytest.mark.parametrize("name", DRIVERS)
def test_layers_are_the_same_under_every_umask(
    name: str, btrfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "examples")])
    above = btrfs if name == "btrfs" else Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=above, prefix="gd-") as place:
        masks = (0, 0o022, 0o077, 0o777)
        found = [kept(name, Path(place) / oct(mask), mask) for mask in masks]
        # A driver deletes what was removed in a thread of its own.
        wait_until(lambda: not any(list(Path(place).glob("*/.trash/*"))))
    for other in found[1:]:
        assert other == found[0]
    assert found[0][0]["open/file"] == oct(0o100666)
    assert found[0][0]["made"] == found[0][2]["."] == oct(0o40755)
