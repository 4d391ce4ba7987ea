"""A daemon on the plugin that is written for Node.js, behind the recorder."""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import UnixListener
from graphdriver.conformance.kit.process import Process
from graphdriver.docker.address.discovery import Address
from graphdriver.docker.recorder import Recorder
from tests.e2e.engines import Engines
from tests.e2e.test_examples import work
from tests.support.daemon import Daemon

PLUGIN = Path(__file__).parents[2] / "examples" / "node" / "plugin.mjs"


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[tuple[str, io.StringIO]]:
    """Serve the plugin under a name of its own; give that, and what is written down of it."""
    name = f"node-{secrets.token_hex(3)}"
    process = Process(f"node {PLUGIN} {{socket}}", folder)
    out = io.StringIO()
    with contextlib.closing(UnixListener(name)) as listener:
        recorder = Recorder(listener, Address(path=process.socket), out)
        thread = threading.Thread(target=recorder.run)
        thread.start()
        try:
            yield name, out
        finally:
            recorder.stop()
            thread.join()
            process.end(15)


def build(daemon: Daemon, busybox: bytes, folder: Path) -> None:
    """Build an image with the classic builder, which reads a Diff while it applies another layer."""
    context = folder / "context"
    context.mkdir()
    (context / "busybox").write_bytes(busybox)
    (context / "busybox").chmod(0o755)
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\n"
        'RUN ["/bin/busybox", "mkdir", "/made"]\nCOPY Dockerfile /made/\n'
    )
    daemon.docker("build", "--network=none", "--tag=built", str(context))
    assert daemon.run("built", "/bin/busybox", "ls", "/made") == "Dockerfile\n"
    daemon.docker("rmi", "built")


@pytest.mark.reaches()  # the recorder tells which calls came
def test_a_daemon_runs_on_the_plugin_in_node(
    engines: Engines, busybox: bytes, tmp_path: Path
) -> None:
    with recorded(tmp_path) as (name, out), engines.on_driver(name) as daemon:
        work(daemon, busybox, tmp_path)
        build(daemon, busybox, tmp_path)
    lines = out.getvalue().splitlines()
    called = {found[1] for line in lines if (found := re.search(r"^\S+ +\d+ +(\w+)", line))}
    assert called >= {"Init", "Create", "ApplyDiff", "Get", "Put", "Changes", "Diff", "Remove"}
    failed = [line for line in lines if not re.search("->  200 ", line)]
    assert failed == []
