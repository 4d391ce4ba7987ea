from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from graphdriver.docker.client import Client
from tests.e2e import homes
from tests.e2e.engines import Engines
from tests.support.images import LayerTar, image_archive
from tests.support.plugin_process import Plugin
from tests.support.waiting import wait_until

LARGE = 32 << 20
"""More bytes than all buffers between a plugin and its caller hold."""


@pytest.mark.reaches("Init", "Capabilities", "Create", "ApplyDiff", "Get", "Put", "Cleanup")
def test_a_restarted_daemon_finds_its_images_and_containers(
    engines: Engines, driver: str, small: Path
) -> None:
    with engines.on_plugin(driver) as (daemon, _):
        daemon.docker("load", "--input", str(small))
        write = "echo by the container >> /data/file && cat /data/file"
        daemon.docker("run", "--name=kept", "--network=none", "small", "sh", "-c", write)
        before = daemon.docker("images", "--no-trunc", "--quiet")
        daemon.stop()
        daemon.start()
        assert daemon.docker("images", "--no-trunc", "--quiet") == before
        assert daemon.docker("start", "--attach", "kept") == (
            "from the image\nby the container\nby the container\n"
        )
        assert daemon.run("small", "cat", "/data/file") == "from the image\n"


@pytest.mark.reaches("Init", "CreateReadWrite", "Get", "Put", "Diff", "Remove", "Cleanup")
def test_a_daemon_and_a_plugin_that_are_both_restarted_find_everything(
    engines: Engines, driver: str, small: Path
) -> None:
    with engines.on_plugin(driver) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--name=kept", "--network=none", "small", "rm", "/data/file")
        daemon.stop()
        plugin.stop()
        plugin.start()
        daemon.start()
        assert daemon.docker("diff", "kept").splitlines() == ["C /data", "D /data/file"]
        daemon.docker("commit", "kept", "without")
        assert daemon.run("without", "sh", "-c", "echo /data/*") == "/data/*\n"
        daemon.docker("rm", "kept")
        daemon.docker("rmi", "without", "small")


@pytest.mark.reaches("Diff", "CreateReadWrite")
def test_a_plugin_that_is_started_before_the_former_one_has_ended_takes_over_from_it(
    engines: Engines, driver: str, tmp_path: Path
) -> None:
    large = LayerTar().add("file", data=bytes(LARGE)).done()
    image_archive(tmp_path / "large.tar", "large", [large])
    with (
        engines.plugin(driver) as plugin,
        contextlib.closing(engines.new_plugin(driver, name=plugin.name)) as successor,
        engines.on_driver(plugin.name) as daemon,
    ):
        daemon.docker("load", "--input", str(tmp_path / "large.tar"))
        layer = homes.layers(daemon)[0]
        with (
            Client(str(plugin.socket)) as client,
            contextlib.closing(client.diff(layer, "")) as stream,
        ):
            stream.read(1)
            plugin.begin_stop()
            successor.start()
            lock = homes.home_of(daemon) / ".graphdriver/lock"
            while not has_open(successor, lock):
                assert successor.log.stat().st_size == 0, successor.tail()
            making = daemon.begin_docker("create", "large", "cat")
        plugin.end_stop()
        said, _ = making.communicate(timeout=60)
        assert making.returncode == 0, said


def has_open(plugin: Plugin, path: Path) -> bool:
    for file in Path("/proc", str(plugin.pid), "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if file.readlink() == path:
                return True
    return False


@pytest.mark.reaches("Init", "CreateReadWrite", "Get", "Put", "Remove")
def test_a_killed_daemon_finds_its_images_again(engines: Engines, driver: str, small: Path) -> None:
    with engines.on_plugin(driver) as (daemon, _):
        daemon.docker("load", "--input", str(small))
        command = ["sh", "-c", "echo written > /data/new; exec sleep 600"]
        run = ["run", "--network=none", "--detach", "--name=lives", "--stop-timeout=1"]
        daemon.docker(*run, "small", *command)
        wait_until(lambda: daemon.docker("diff", "lives"))  # it has run so far
        daemon.kill()
        daemon.start()
        assert daemon.docker("diff", "lives").splitlines() == ["C /data", "A /data/new"]
        daemon.docker("rm", "--force", "lives")
        assert daemon.run("small", "cat", "/data/file") == "from the image\n"
