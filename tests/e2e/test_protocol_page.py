"""docs/protocol.md shows the bytes that a daemon sends today, and those of our responses."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from graphdriver.conformance.plugin.wire import Wire, call
from graphdriver.docker.protocol import CALLS
from tests.e2e.engines import Engines
from tests.e2e.protocol_page import examples, shown
from tests.e2e.wire_bytes import WireBytes
from tests.support.daemon import Daemon
from tests.support.images import LayerTar, image_archive


def work(daemon: Daemon, busybox: bytes, folder: Path) -> None:
    """Make every call at least once."""
    below = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    below.symlink("bin/sh", "busybox").folder("data").add("data/old", data=b"old\n")
    above = LayerTar().folder("etc").add("etc/motd", data=b"hello\n")
    layers = [below.done(), above.done()]
    image_archive(folder / "image.tar", "small", layers, {"Env": ["PATH=/bin"]})
    daemon.docker("load", "--input", str(folder / "image.tar"))
    command = "busybox rm /data/old && echo new > /data/new"
    daemon.docker("run", "--name=one", "--network=none", "small", "sh", "-c", command)
    for words in ("diff one", "ps --all --size", "inspect one", "commit one changed", "rm one"):
        daemon.docker(*words.split())
    quota = ["--storage-opt", "size=1G"]
    refused = daemon.try_docker("run", "--network=none", *quota, "small", "true")
    assert "this driver has no options; leave out --storage-opt" in refused.stderr.decode()


@pytest.mark.reaches(*(each.name for each in CALLS), failing=("CreateReadWrite",))
def test_the_page_shows_what_a_daemon_sends_and_what_we_respond(
    engines: Engines, busybox: bytes, tmp_path: Path
) -> None:
    with (
        engines.plugin("tests.e2e.protocol_driver:Example") as plugin,
        WireBytes(str(plugin.socket)) as wire,
        engines.on_driver(wire.name) as daemon,
    ):
        work(daemon, busybox, tmp_path)
        daemon.stop()
        called = {one.call for one in wire.exchanges}
        assert {each.name for each in CALLS} - called == {"Exists"}  # no daemon sends it
        layer = next(one.layer for one in wire.exchanges if one.call == "ApplyDiff")
        with Wire(wire.path) as kit:
            assert kit.ask(call("Exists", ID=layer)).members == {"Exists": True}
        home = str(daemon.root / wire.name)
    seen = shown(wire.exchanges, home)
    # What the page says of later versions.
    host = "Host:" if engines.docker.version.startswith("20.10.") else "Host: plugin.moby.localhost"
    for text in examples():
        example = text.replace("Host:\n", f"{host}\n")
        assert example in seen, _difference(example, seen)


@pytest.mark.reaches()
def test_the_page_shows_every_call() -> None:
    shown_calls = {one.partition(" HTTP/")[0].partition("?")[0] for one in examples()}
    assert shown_calls == {f"POST {each.path}" for each in CALLS}


def _difference(example: str, seen: list[str]) -> str:
    """Return how an example differs from the most similar call."""
    (nearest,) = difflib.get_close_matches(example, seen, n=1, cutoff=0)
    lines = difflib.unified_diff(example.splitlines(), nearest.splitlines(), "page", "daemon")
    return "\n".join(lines)
