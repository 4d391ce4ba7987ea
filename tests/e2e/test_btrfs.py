"""What only the driver btrfs can do under a daemon: limits of size, for containers one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.daemon import Daemon
from tests.support.plugin_process import Plugin

WRITE = "for _ in $(busybox seq 60); do cat /bin/busybox || break; done 2>&1 > /file; echo over"
"""More than 60 MB; one copy is more than one."""


@pytest.fixture(scope="module")
def engine(engines: Engines) -> Iterator[tuple[Daemon, Plugin]]:
    with engines.on_plugin("btrfs") as engine:
        yield engine


@pytest.mark.reaches("CreateReadWrite", "Get", "GetMetadata", "Remove")
def test_a_container_cannot_write_more_than_its_size(
    engine: tuple[Daemon, Plugin], small: Path
) -> None:
    daemon, _ = engine
    daemon.docker("load", "--input", str(small))
    create = ["create", "--name=limited", "--network=none", "--storage-opt=size=20M", "small"]
    daemon.docker(*create, "busybox", "sh", "-c", WRITE)
    said = daemon.docker("start", "--attach", "limited")
    assert "Disk quota exceeded" in said
    assert "over" in said
    form = "{{.GraphDriver.Data.Size}}"
    assert daemon.docker("inspect", f"--format={form}", "limited").strip() == str(20 << 20)
    daemon.docker("rm", "limited")
