"""What only a driver that mounts can do wrong, or right, under a daemon."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from graphdriver.docker.client import Client
from graphdriver.linux.mountinfo import MountPoint, mount_points
from tests.e2e import homes
from tests.e2e.engines import Engines
from tests.support.daemon import Daemon, DockerError
from tests.support.images import LayerTar, image_archive, read_saved
from tests.support.plugin_process import Plugin
from tests.support.waiting import wait_until

MOST_LAYERS = 125
"""More a daemon refuses to load (moby, layer/layer_store.go, maxLayerDepth)."""


def overlays(daemon: Daemon) -> list[MountPoint]:
    """Return what is mounted in the daemon's home."""
    home = bytes(homes.home_of(daemon)) + b"/"
    return [one for one in mount_points() if one.point.startswith(home)]


@pytest.mark.parametrize("driver", ["overlay2", "erofs"])
@pytest.mark.reaches("Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Diff", "Remove")
def test_an_image_of_as_many_layers_as_a_daemon_takes_can_be_used(
    engines: Engines, driver: str, busybox: bytes, tmp_path: Path
) -> None:
    first = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    for applet in ("cat", "ls", "rm", "sh"):
        first.symlink(f"bin/{applet}", "busybox")
    layers = [first.done()]
    for number in range(1, MOST_LAYERS):
        tar = LayerTar().folder("data").add(f"data/{number}", data=b"%d\n" % number)
        tar.add("data/newest", data=b"%d\n" % number)
        if number % 2 and number > 1:
            tar.add(f"data/.wh.{number - 1}")
        layers.append(tar.done())
    image_archive(tmp_path / "deep.tar", "deep", layers, {"Env": ["PATH=/bin"]})
    there = [*range(1, MOST_LAYERS, 2), MOST_LAYERS - 1]
    with engines.on_plugin(driver) as (daemon, _):
        daemon.docker("load", "--input", str(tmp_path / "deep.tar"))
        assert len(homes.layers(daemon)) == MOST_LAYERS
        said = daemon.run("deep", "sh", "-c", "cd /data && cat newest && cat $(ls | grep -v new)")
        assert said.split()[0] == str(MOST_LAYERS - 1)
        assert sorted(map(int, said.split()[1:])) == there
        daemon.docker_to_file(tmp_path / "saved.tar", "save", "deep")
        saved = read_saved(tmp_path / "saved.tar")
        assert len(saved.diff_ids) == MOST_LAYERS
        assert saved.found_diff_ids == saved.diff_ids
        with pytest.raises(DockerError, match="max depth exceeded"):
            daemon.docker("run", "--name=one", "--network=none", "deep", "rm", "/data/newest")
            daemon.docker("commit", "one", "deeper")
        assert daemon.docker("diff", "one").splitlines() == ["C /data", "D /data/newest"]
        daemon.docker("rm", "one")
        daemon.docker("rmi", "deep")
        assert homes.layers(daemon) == []
        assert overlays(daemon) == []


@pytest.mark.reaches("CreateReadWrite", "Get", "Put", "Remove")
def test_a_containers_mount_stays_the_same_one_until_its_container_stops(
    engines: Engines, small: Path
) -> None:
    with engines.on_plugin("overlay2", config={"live-restore": True}) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        run = ["run", "--detach", "--network=none", "--name=lives", "--stop-timeout=1", "small"]
        daemon.docker(*run, "sleep", "600")
        (before,) = overlays(daemon)
        rounds: tuple[tuple[Daemon | Plugin, ...], ...] = ((plugin,), (daemon,), (plugin, daemon))
        for killed in rounds:
            for one in reversed(killed):
                one.kill()
            for one in killed:
                one.start()
            assert daemon.docker("exec", "lives", "cat", "/data/file") == "from the image\n"
            assert daemon.docker("diff", "lives") == ""
            (now,) = overlays(daemon)
            # While the container lives, its own mount keeps the device from being given anew.
            assert now.device == before.device
        daemon.docker("stop", "lives")
        wait_until(lambda: overlays(daemon) == [])  # it answers before it unmounts
        assert daemon.docker("start", "lives")
        assert len(overlays(daemon)) == 1
        daemon.docker("rm", "--force", "lives")
        assert overlays(daemon) == []


@pytest.mark.reaches("Init", "CreateReadWrite", "Get", "Put")
def test_a_restarted_plugin_knows_how_often_a_layer_is_held(engines: Engines, small: Path) -> None:
    with engines.on_plugin("overlay2") as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--detach", "--network=none", "--name=lives", "small", "sleep", "600")
        (layer,) = (Path(one.point.decode()).parent.name for one in overlays(daemon))
        with Client(str(plugin.socket)) as client:  # as a daemon that copies out of the container
            client.get(layer, "")
            plugin.kill()
            plugin.start()
            client.put(layer)
        assert len(overlays(daemon)) == 1
        assert daemon.docker("exec", "lives", "cat", "/data/file") == "from the image\n"
        daemon.docker("stop", "--time=1", "lives")
        wait_until(lambda: overlays(daemon) == [])


@pytest.mark.reaches("Init", "CreateReadWrite", "Get", "Put")
def test_what_a_killed_daemon_held_is_forgotten_but_not_what_its_container_holds(
    engines: Engines, small: Path
) -> None:
    with engines.on_plugin("overlay2", config={"live-restore": True}) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--detach", "--network=none", "--name=lives", "small", "sleep", "600")
        (layer,) = (Path(one.point.decode()).parent.name for one in overlays(daemon))
        with Client(str(plugin.socket)) as client:
            client.get(layer, "")  # as a daemon holds what it copies from, and is killed
        daemon.kill()
        daemon.start()
        assert len(overlays(daemon)) == 1
        assert daemon.docker("exec", "lives", "cat", "/data/file") == "from the image\n"
        daemon.docker("stop", "--time=1", "lives")
        wait_until(lambda: overlays(daemon) == [])


@pytest.mark.reaches("Init", failing=("Init",))
def test_a_daemon_whose_data_root_will_not_do_has_the_reason_in_its_log(engines: Engines) -> None:
    with engines.plugin("overlay2") as plugin, engines.daemon(plugin.name) as daemon:
        daemon.data_root.mkdir()
        subprocess.run(["mount", "-t", "ramfs", "ramfs", daemon.data_root], check=True)
        with pytest.raises(DockerError) as error:
            daemon.start()
        assert (
            f"overlay2: {homes.home_of(daemon)} is on ramfs, which cannot keep overlayfs's extended"
            " attributes (Operation not supported); set the daemon's data-root to another filesystem,"
            " or use vfs"
        ) in str(error.value)
