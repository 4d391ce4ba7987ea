"""The metrics of a snapshotter under a real containerd are the calls that containerd made."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.support.containerd import IMAGE, Containerd, imported
from tests.support.containerd_images import busybox
from tests.support.metrics import counted, falling, logged, port_of, scraped, scraping, value
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

OPTIONS = ("-v", "--log-format", "json", "--metrics", "127.0.0.1:0")


@pytest.mark.root
def test_calls_layers_and_references_are_those_of_containerd(folder: Path) -> None:
    with (
        Snapshotter(folder, "overlay2", *OPTIONS) as snapshotter,
        Containerd(folder, snapshotter.address).running() as containerd,
    ):
        port = port_of(snapshotter.log)
        with scraping(port) as got:
            imported(containerd, folder, [busybox()])
            run = ("run", "--snapshotter=ours")
            once, measured = containerd.named("once"), containerd.named("measured")
            containerd.ctr(*run, "--rm", IMAGE, once, "/bin/sh", "-c", ":")
            containerd.ctr(*run, "-d", IMAGE, measured, "/bin/sh", "-c", "sleep 600")
            wait_until(lambda: len(snapshotter.layers()) == len(containerd.snapshots()))
            kinds = containerd.snapshots()
            assert kinds[measured] == "Active"
            found = scraped(port)
            assert value(found, "layers") == len(snapshotter.layers()) == len(kinds)
            assert value(found, "references") == len([*filter("Active".__eq__, kinds.values())])
            with pytest.raises(grpc.RpcError):
                snapshotter.calls.mounts("missing")
        containerd.ctr("task", "kill", "-s", "9", measured)
        wait_until(lambda: "STOPPED" in containerd.ctr("task", "ls"))
        containerd.ctr("task", "rm", measured)
        containerd.ctr("container", "rm", measured)
        containerd.ctr("image", "rm", "--sync", IMAGE)
        wait_until(lambda: not containerd.snapshots())
        wait_until(lambda: not value(scraped(port), "layers"))
        wait_until(lambda: counted(scraped(port)) == logged(snapshotter.log))
        found = scraped(port)
        assert {call for call, _ in counted(found)} >= {"Prepare", "Commit", "Mounts", "Remove"}
        assert value(found, "call_errors_total", "Mounts", "not found") >= 1
        assert value(found, "references") == value(found, "calls_in_flight") == 0
        assert not falling([*got, found])
