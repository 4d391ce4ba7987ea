from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.plugin_process import Plugin

RETRY_TIMEOUT = 60.0

pytestmark = pytest.mark.parametrize("driver", ["overlay2"], indirect=True)
"""That a daemon dials again does not depend on the driver."""


def wait_until_it_tries_again(daemon: Daemon, since: int) -> None:
    """Wait until the daemon has dialled in vain twice: after 1 s again, and next after 2 s."""
    deadline = time.monotonic() + RETRY_TIMEOUT
    while b"retrying in 2s" not in daemon.log.read_bytes()[since:]:
        assert time.monotonic() < deadline, "the daemon does not miss its plugin"
        time.sleep(0.02)


@pytest.mark.parametrize("end", [Plugin.stop, Plugin.kill], ids=["stop", "kill"])
@pytest.mark.reaches("CreateReadWrite", "Get", "Put", "Remove")
def test_a_plugin_that_is_absent_for_some_seconds_goes_unnoticed(
    ours: Daemon, plugin: Plugin, small: Path, end: Callable[[Plugin], None]
) -> None:
    ours.docker("load", "--input", str(small))
    end(plugin)
    begun = ours.log.stat().st_size
    read = ["run", "--rm", "--network=none", "small", "cat", "/data/file"]
    running = ours.begin_docker(*read)
    try:
        wait_until_it_tries_again(ours, begun)
    finally:
        plugin.start()
    said, _ = running.communicate(timeout=60)
    assert (running.returncode, said) == (0, b"from the image\n")
