"""An image with what other builders leave behind: Docker's own driver loads it, and so do ours."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.daemon import Daemon
from tests.support.images import LayerTar, image_archive, read_saved
from tests.support.plugin_process import Plugin

FAR_PAST = -6795364579


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Path:
    first = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    for applet in ("cat", "ls"):
        first.symlink(f"bin/{applet}", "busybox")
    first.folder("data").add("data/below", data=b"below\n").folder("others").add("others/file")
    marks = {
        "trusted.overlay.opaque": b"y",
        "user.overlay.opaque": b"y",
        "user.overlay.origin": b"",
        "trusted.overlay.redirect": b"/others",
        "user.fuseoverlayfs.opaque": b"y",
    }
    odd = {"com.apple.provenance": b"x", "user.k": b"v"}
    second = LayerTar()
    second.add("data", type=tarfile.DIRTYPE, mode=0o755, xattrs=marks)
    second.add("data/old", data=b"old\n", mtime=FAR_PAST, xattrs={"com.apple.provenance": b"x"})
    second.add("data/link", type=tarfile.SYMTYPE, link="old", xattrs=odd)
    second.add("data/pipe", type=tarfile.FIFOTYPE, xattrs=odd)
    second.add("data/null", type=tarfile.CHRTYPE, device=(1, 3), xattrs=odd)
    path = tmp_path_factory.mktemp("leftovers") / "image.tar"
    image_archive(path, "leftovers", [first.done(), second.done()], {"Env": ["PATH=/bin"]})
    return path


def loaded(daemon: Daemon, image: Path) -> str:
    daemon.docker("load", "--input", str(image))
    return daemon.run("leftovers", "cat", "/data/below", "/data/link")


@pytest.mark.reaches()
def test_docker_s_own_driver_loads_it(engines: Engines, image: Path) -> None:
    with engines.on_driver("vfs") as daemon:
        assert loaded(daemon, image) == "below\nold\n"


@pytest.mark.reaches("Create", "ApplyDiff", "CreateReadWrite", "Get", "Put")
def test_ours_load_it_and_its_digests_stay(
    shared: tuple[Daemon, Plugin], image: Path, tmp_path: Path
) -> None:
    daemon, _ = shared
    assert loaded(daemon, image) == "below\nold\n"
    assert daemon.run("leftovers", "ls", "/data").split() == [
        "below",
        "link",
        "null",
        "old",
        "pipe",
    ]
    daemon.docker_to_file(tmp_path / "saved.tar", "save", "leftovers")
    saved = read_saved(tmp_path / "saved.tar")
    assert saved.found_diff_ids == saved.diff_ids == read_saved(image).diff_ids
    daemon.docker("rmi", "leftovers")
