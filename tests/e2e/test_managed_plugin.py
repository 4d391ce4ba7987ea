"""A driver as a managed plugin: Docker keeps it, starts it, and upgrades it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.command import graphdriver
from tests.support.daemon import Daemon
from tests.support.registry import registry
from tests.support.waiting import wait_until

pytestmark = pytest.mark.reaches()  # each test looks into the plugin's home instead

MOST = 60e6
"""Bytes of a plugin's root."""

WRITE = "echo by the container >> /data/file && cat /data/file"


def packaged(folder: Path, driver: str, name: str) -> Path:
    """Make the directory of a managed plugin, as an operator does."""
    bundle = folder / "bundle"
    done = graphdriver("package", driver, "--name", name, "--output", str(bundle))
    assert done.returncode == 0, done.stderr.decode()
    return bundle


def home(daemon: Daemon, name: str) -> Path:
    """Return the plugin's home."""
    (found,) = daemon.data_root.glob(f"plugins/*/propagated-mount/{name}")
    return found


def processes(daemon: Daemon) -> list[int]:
    """Return the processes of the managed plugins of a daemon: those that have its plugins' roots."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            root = os.stat(f"/proc/{pid}/root")
            if any(
                os.path.samestat(root, os.stat(one))
                for one in daemon.data_root.glob("plugins/*/rootfs")
            ):
                found.append(int(pid))
    return found


@pytest.mark.parametrize("driver", ["overlay2", "erofs", "vfs"])
def test_a_managed_plugin_keeps_images_and_containers_over_restarts_and_kills(
    engines: Engines, driver: str, small: Path, tmp_path: Path
) -> None:
    name = f"example/{driver}:1"
    bundle = packaged(tmp_path, driver, name)
    size = sum(file.lstat().st_size for file in (bundle / "rootfs").rglob("*") if not file.is_dir())
    assert size <= MOST
    with engines.daemon("vfs", behind=driver) as daemon:
        daemon.start()
        daemon.docker("plugin", "create", name, str(bundle))
        daemon.docker("plugin", "enable", name)
        daemon.stop()
        daemon.switch_to(name)
        daemon.start()
        daemon.docker("load", "--input", str(small))
        images = daemon.docker("images", "--no-trunc", "--quiet")
        daemon.docker("run", "--name=kept", "--network=none", "small", "sh", "-c", WRITE)
        built = daemon.docker(
            *("build", "--quiet", "--network=none", "-"), input=b"FROM small\nRUN echo 1 > /built\n"
        ).strip()
        assert daemon.run(built, "cat", "/built") == "1\n"
        saved = tmp_path / "saved.tar"
        daemon.docker_to_file(saved, "save", built)
        assert (home(daemon, name) / ".graphdriver").is_dir()

        daemon.stop()
        began = time.monotonic()
        daemon.start()
        print(f"{driver}: the daemon is up again after {time.monotonic() - began:.1f} s")
        assert set(images.split()) < set(daemon.docker("images", "--no-trunc", "--quiet").split())
        assert daemon.docker("start", "--attach", "kept").count("by the container") == 2

        daemon.docker("run", "--detach", "--name=lives", "--network=none", "small", "sleep", "600")
        for pid in processes(daemon):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bool(processes(daemon)))  # Docker starts a killed plugin again
        assert daemon.docker("exec", "lives", "cat", "/data/file") == "from the image\n"
        assert daemon.run("small", "cat", "/data/file") == "from the image\n"
        daemon.docker("rm", "--force", "lives", "kept")
        daemon.docker("rmi", built)
        daemon.docker("load", "--input", str(saved))
        assert daemon.run(built, "cat", "/built") == "1\n"

        daemon.stop()
        done = graphdriver("gc", str(home(daemon, name)))
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"each has a record" in done.stdout


def test_an_upgraded_plugin_keeps_all_layers(engines: Engines, small: Path, tmp_path: Path) -> None:
    with registry(tmp_path) as address, engines.daemon("vfs", behind="overlay2") as daemon:
        name = f"{address}/example/overlay2:1"
        bundle = packaged(tmp_path, "overlay2", name)
        daemon.start()
        daemon.docker("plugin", "create", name, str(bundle))
        daemon.docker("plugin", "push", name)
        daemon.docker("plugin", "enable", name)
        daemon.stop()
        daemon.switch_to(name)
        daemon.start()
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--name=kept", "--network=none", "small", "sh", "-c", WRITE)
        daemon.stop()

        daemon.switch_to("vfs")
        daemon.start()
        config = json.loads((bundle / "config.json").read_text())
        config["description"] = "the new one"
        (bundle / "config.json").write_text(json.dumps(config))
        (
            bundle / "rootfs" / "new"
        ).touch()  # a daemon refuses to create a second plugin of one root
        other = f"{address}/example/overlay2:2"
        daemon.docker("plugin", "create", other, str(bundle))
        daemon.docker("plugin", "push", other)
        daemon.docker("plugin", "rm", other)
        daemon.docker("plugin", "disable", "--force", name)
        daemon.docker(
            "plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", name, other
        )
        daemon.docker("plugin", "enable", name)
        assert "the new one" in daemon.docker("plugin", "ls")
        daemon.stop()

        daemon.switch_to(name)
        daemon.start()
        assert daemon.docker("start", "--attach", "kept").count("by the container") == 2
        assert daemon.run("small", "cat", "/data/file") == "from the image\n"
