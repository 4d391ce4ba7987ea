"""The metrics of a plugin under a real daemon are the calls that the daemon made."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from graphdriver import Client, RemoteError
from graphdriver.linux.mountinfo import mount_points
from tests.e2e.engines import Engines
from tests.e2e.homes import home_of, layers
from tests.support.metrics import counted, falling, logged, port_of, scraped, scraping, value
from tests.support.waiting import wait_until

LAYERS_OF_SMALL = 2


@pytest.mark.reaches("Create", "ApplyDiff", "Get", "Put", "Diff", "Remove", failing=("Get",))
def test_calls_bytes_layers_mounts_and_references_are_those_of_the_daemon(
    engines: Engines, small: Path
) -> None:
    options = ("--metrics", "127.0.0.1:0")
    with engines.on_plugin("overlay2", options=options) as (daemon, plugin):
        port = port_of(plugin.log)
        with scraping(port) as got:
            daemon.docker("load", f"--input={small}")
            assert value(scraped(port), "received_bytes_total") == size_of_layers(small)
            daemon.docker("run", "-d", "--name=runs", "--network=none", "small", "sleep", "600")
            running = scraped(port)
            home = home_of(daemon)
            mounts = [one for one in mount_points() if one.point.startswith(bytes(home) + b"/")]
            assert value(running, "references") == value(running, "mounts") == len(mounts) == 1
            daemon.docker("exec", "runs", "sh", "-c", "cat /data/file > /new")
            daemon.docker("commit", "runs", "committed")
            daemon.docker("rm", "-f", "runs")
            daemon.docker("rmi", "committed")
            with Client(str(plugin.socket), timeout=60) as client, pytest.raises(RemoteError):
                client.get("missing", "")
        wait_until(lambda: not value(scraped(port), "calls_in_flight"))
        found = scraped(port)
        assert counted(found) == logged(plugin.log)
        assert value(found, "call_errors_total", "Get", "not found") == 1
        assert counted(found)["Get", "error"] == 1
        # A commit sends a layer's tar out, and in again as another layer.
        loaded = size_of_layers(small)
        sent = value(found, "sent_bytes_total")
        assert sent == value(found, "received_bytes_total") - loaded > 0
        assert value(found, "layers") == len(layers(daemon)) == LAYERS_OF_SMALL
        assert value(found, "unfinished_layers") == value(found, "calls_waiting") == 0
        assert value(found, "references") == value(found, "mounts") == 0
        assert value(found, "last_sync_timestamp_seconds") >= plugin.log.stat().st_ctime - 600
        assert not falling([*got, found])


def size_of_layers(image: Path) -> int:
    """Return the bytes of the layers' tars in an image's archive."""
    with tarfile.open(image) as archive:
        return sum(one.size for one in archive if one.name.endswith("layer.tar"))
