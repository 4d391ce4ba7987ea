from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.homes import layers
from tests.support.daemon import Daemon
from tests.support.images import LayerTar, image_archive
from tests.support.plugin_process import Plugin

ON_ONE = pytest.mark.parametrize("driver", ["vfs"], indirect=True)
"""What the handler does for every driver, and what makes the daemon wait for many seconds."""


def refused(daemon: Daemon, *arguments: str) -> str:
    done: subprocess.CompletedProcess[bytes] = daemon.try_docker(*arguments)
    assert done.returncode != 0, done.stdout
    return done.stderr.decode() + done.stdout.decode()


@pytest.mark.reaches("Create", "ApplyDiff", "Remove", failing=("ApplyDiff",))
def test_a_layer_that_climbs_out_of_its_root_is_refused_in_words(
    ours: Daemon, tmp_path: Path
) -> None:
    before = layers(ours)
    outside = f"../../../../../../../../{tmp_path}/escaped"
    tar = LayerTar().add("good", data=b"good").add(outside, data=b"out")
    image_archive(tmp_path / "hostile.tar", "hostile", [tar.done()])
    said = refused(ours, "load", "--input", str(tmp_path / "hostile.tar"))
    assert "escaped': the name climbs above the layer's root" in said
    assert not (tmp_path / "escaped").exists()
    assert layers(ours) == before


@ON_ONE
@pytest.mark.reaches("Create", "ApplyDiff", "Remove", failing=("ApplyDiff",))
def test_a_daemon_survives_the_refusal_of_layers_of_any_length(
    ours: Daemon, tmp_path: Path
) -> None:
    # Refused before it has sent all, dockerd 20.10.24 panics, and all its containers are lost.
    for length in (0, 1, 20, 500, 3000):
        tar = LayerTar().add("../bad")
        for number in range(length):
            tar.add(f"file-{number}", data=b"data")
        path = tmp_path / f"{length}.tar"
        path.write_bytes(tar.done())
        for _ in range(3):
            assert "'../bad': " in refused(ours, "import", str(path), "bad")


@pytest.mark.reaches("Create", "ApplyDiff", "Remove", failing=("ApplyDiff",))
def test_a_symbolic_link_to_the_host_is_no_way_out(ours: Daemon, tmp_path: Path) -> None:
    # Within the layer the link's target is a path of the layer, as in a chroot.
    tar = LayerTar().symlink("way", str(tmp_path)).add("way/out", data=b"out")
    tar.add("way-too", type=tarfile.SYMTYPE, link="../" * 40 + str(tmp_path)[1:])
    tar.add("way-too/out-too", data=b"out")
    image_archive(tmp_path / "hostile.tar", "hostile", [tar.done()])
    ours.try_docker("load", "--input", str(tmp_path / "hostile.tar"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.tar"]
    ours.try_docker("rmi", "hostile")


@ON_ONE
@pytest.mark.reaches("Create", "ApplyDiff", "Remove", failing=("ApplyDiff",))
def test_a_truncated_layer_leaves_nothing(ours: Daemon, tmp_path: Path) -> None:
    before = layers(ours)
    whole = LayerTar().add("a", data=b"a" * 100_000).add("b", data=b"b" * 100_000).done()
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:150_000])
    refused(ours, "import", str(path), "cut")
    assert layers(ours) == before


@pytest.mark.reaches("Create", "ApplyDiff", "Remove")
def test_an_import_of_nothing_is_an_empty_layer(ours: Daemon) -> None:
    ours.docker("import", "-", "nothing", input=b"")
    assert ours.docker("inspect", "--format", "{{.Size}}", "nothing") == "0\n"
    ours.docker("rmi", "nothing")


@pytest.mark.reaches("CreateReadWrite", failing=("CreateReadWrite",))
def test_a_size_that_cannot_be_kept_is_refused_in_words(ours: Daemon, driver: str) -> None:
    size = "some" if driver == "btrfs" else "1G"  # there any real one can
    ours.docker("import", "-", "any", input=LayerTar().add("file").done())
    said = refused(ours, "create", f"--storage-opt=size={size}", "any", "/file")
    assert "size" in said
    assert ours.docker("ps", "--all", "--quiet") == ""
    ours.docker("rmi", "any")


@pytest.mark.reaches("Status")
def test_docker_info_names_the_driver_and_shows_its_status(ours: Daemon, plugin: Plugin) -> None:
    assert ours.docker("info", "--format", "{{.Driver}}") == f"{plugin.name}\n"
