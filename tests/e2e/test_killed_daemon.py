"""What a killed daemon leaves to the next one: a container that lives, a lost Put, half a layer."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.docker.client import Client
from tests.e2e import homes
from tests.e2e.engines import OVERLAYS, Engines
from tests.e2e.test_live_containers import Appender
from tests.support import leftovers
from tests.support.daemon import Daemon

TIMEOUT = 60.0


def container_layers(daemon: Daemon) -> tuple[str, str]:
    """Return the layer of the only container, and the one that it stands on."""
    (folder,) = (daemon.root / "image" / daemon.storage_driver / "layerdb/mounts").iterdir()
    return (folder / "mount-id").read_text(), (folder / "init-id").read_text()


@contextlib.contextmanager
def half_an_import(daemon: Daemon, pipe: Path) -> Iterator[None]:
    """Import an image, of which half has arrived, for the length of a ``with`` block."""
    os.mkfifo(pipe)
    with daemon.begin_docker("import", str(pipe)) as command:
        with open(pipe, "wb", 0) as tar:
            tar.write(tars.file(b"whole", b"x" * 100_000) + tars.header(b"half", size=1 << 20))
            deadline = time.monotonic() + TIMEOUT
            while not homes.unfinished(daemon):
                assert time.monotonic() < deadline, "nothing is being applied"
                time.sleep(0.02)
            yield
        command.communicate(timeout=TIMEOUT)


@pytest.mark.reaches("Create", "ApplyDiff", "Init", "Get", "Put", failing=("ApplyDiff",))
def test_the_next_daemon_gets_rid_of_it_and_the_container_lives(
    engines: Engines, driver: str, small: Path, tmp_path: Path
) -> None:
    with engines.on_plugin(driver, config={"live-restore": True}) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        container = Appender(daemon)
        container.goes_on()
        home = homes.home_of(daemon)
        own, below = (f"{home}/{layer}/merged" for layer in container_layers(daemon))
        with Client(str(plugin.socket)) as client:
            client.get(container_layers(daemon)[1], "")
        mounted = [own, below] if driver in OVERLAYS else []
        assert sorted(leftovers.layers_mounted(home)) == sorted(mounted)
        with half_an_import(daemon, tmp_path / "pipe"):
            half = homes.unfinished(daemon)
            daemon.kill()
        daemon.start()

        assert homes.unfinished(daemon) == []
        assert not {*half} & {*homes.layers(daemon)}
        assert leftovers.layers_mounted(home) == [one for one in mounted if one != below]
        container.goes_on()
        container.stop()
        daemon.docker("rm", "lives")
        assert leftovers.layers_mounted(home) == []
