"""``--metrics``: where it listens, what it refuses, and that nothing of it is loaded without it."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.cli.watching import watched
from graphdriver.errors import MalformedRequestError, UnsupportedError
from graphdriver.serving.served_home import ServedHome
from tests.support.command import Serving, graphdriver
from tests.support.metrics import page, port_of
from tests.support.snapshotter import Snapshotter
from tests.support.tarbox import TarBox

pytestmark = pytest.mark.root

LOADED = """
import sys
from graphdriver.cli import serve
from graphdriver.cli.main import main
def stop(*arguments):
    print(*sorted(sys.modules))
    raise SystemExit
{stop_at}
main(["serve", "vfs", "--socket", "{socket}", *{options!r}])
"""


@pytest.fixture
def serving(folder: Path) -> Iterator[Serving]:
    """vfs, served with metrics on a port of the kernel's choice."""
    one = Serving(folder, "vfs", "--metrics", "127.0.0.1:0").ready()
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)


def test_alive_before_a_daemon_has_come_and_ready_after_its_init(
    serving: Serving, folder: Path
) -> None:
    port = port_of(serving.log)
    assert page(port, "/healthz") == (200, "alive\n")
    assert page(port, "/readyz") == (
        503,
        "not ready: no home is served; a daemon sends Init when it starts\n",
    )
    assert "graphdriver_ready 0.0\n" in page(port, "/metrics")[1]
    serving.call("Init", f"Home={folder}/home")
    assert page(port, "/readyz") == (200, "ready\n")
    assert "graphdriver_ready 1.0\n" in page(port, "/metrics")[1]
    (folder / "home").rename(folder / "away")
    status, said = page(port, "/readyz")
    assert status == 503
    assert said == f"not ready: {folder}/home is not the directory that was served until now\n"
    assert page(port, "/healthz") == (200, "alive\n")
    (folder / "away").rename(folder / "home")
    assert page(port, "/readyz") == (200, "ready\n")
    serving.call("Cleanup")
    assert page(port, "/readyz")[0] == 503


def test_a_filesystem_that_became_read_only_is_not_ready(serving: Serving, folder: Path) -> None:
    port = port_of(serving.log)
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        serving.call("Init", f"Home={place}/home")
        assert page(port, "/readyz") == (200, "ready\n")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        said = f"not ready: {place}/home is on a filesystem that is read-only\n"
        assert page(port, "/readyz") == (503, said)
        serving.call("Cleanup")
        assert serving.end() == 0
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_stop_closes_the_port(serving: Serving) -> None:
    port = port_of(serving.log)
    assert serving.end() == 0
    with pytest.raises(ConnectionRefusedError):
        page(port, "/healthz")


def test_a_unix_socket_is_for_whoever_may_enter_its_directory(folder: Path) -> None:
    path = folder / "metrics.sock"
    one = Serving(folder, "vfs", "--metrics", f"unix://{path}").ready()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).endswith(b"alive\n")
    finally:
        assert one.end() == 0
    assert not path.exists()


def test_a_snapshotter_has_the_same_pages(folder: Path) -> None:
    with Snapshotter(folder, "vfs", "--metrics", "127.0.0.1:0") as one:
        port = port_of(one.log)
        assert page(port, "/healthz") == (200, "alive\n")
        assert page(port, "/readyz") == (200, "ready\n")
        metrics = page(port, "/metrics")[1]
        assert re.search(r'graphdriver_build_info{driver="vfs",engine="containerd",ver', metrics)


def test_a_port_in_use_is_an_error_at_the_start(folder: Path) -> None:
    path = folder / f"{folder.name}.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        metrics = ("--metrics", f"127.0.0.1:{port}")
        done = graphdriver("serve", "vfs", "--socket", str(path), *metrics)
    said = f"graphdriver serve: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert (done.returncode, done.stderr.decode()) == (5, said)
    assert not path.exists()


def watch(metrics: str | None, *, allow: bool = False) -> None:
    """Serve the pages as ``--metrics`` and ``--allow-remote-metrics`` say, and stop."""
    options = argparse.Namespace(metrics=metrics, allow_remote_metrics=allow)
    with watched(options, ServedHome(TarBox(), "docker")):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]"])
def test_other_machines_are_kept_out_unless_they_are_allowed(host: str) -> None:
    said = "and read the metrics there; listen on 127.0.0.1, or add --allow-remote-metrics"
    with pytest.raises(UnsupportedError, match=said):
        watch(f"{host}:0")
    watch(f"{host}:0", allow=True)


@pytest.mark.parametrize("address", ["9123", "127.0.0.1:", "127.0.0.1:99999", "unix://m.sock", ""])
def test_what_is_no_address_is_wrong_usage(address: str) -> None:
    with pytest.raises(MalformedRequestError, match=f"--metrics {address} is not "):
        watch(address)


def test_an_option_of_metrics_without_metrics_is_wrong_usage() -> None:
    with pytest.raises(MalformedRequestError, match="--allow-remote-metrics goes with --metrics"):
        watch(None, allow=True)


def test_without_the_library_the_error_names_the_line_that_installs_it(folder: Path) -> None:
    (folder / "prometheus_client.py").write_text(
        "raise ModuleNotFoundError('no', name='prometheus_client')\n"
    )
    path = f"{folder}/{folder.name}.sock"
    options = ["--socket", path, "--metrics", "127.0.0.1:0"]
    done = graphdriver("serve", "vfs", *options, path=str(folder))
    assert done.returncode == 7
    said = "--metrics needs prometheus-client, which is not installed; pip install 'graphdriver"
    assert said in done.stderr.decode()
    assert not os.path.exists(path)


BOUND = "serve._serve = stop"
"""Where the plugin's socket is bound, and nothing else has happened."""
SERVES = "import graphdriver.docker.serve; graphdriver.docker.serve.run = stop"
"""Where calls are answered from now on."""


@pytest.mark.parametrize(
    ("stop_at", "options"), [(BOUND, ["--metrics", "127.0.0.1:0"]), (SERVES, [])]
)
def test_nothing_of_this_is_loaded_before_the_socket_is_bound_and_without_the_option_at_all(
    folder: Path, stop_at: str, options: list[str]
) -> None:
    path = f"{folder}/{folder.name}.sock"
    script = LOADED.format(stop_at=stop_at, socket=path, options=options)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = {*done.stdout.split()}
    assert "graphdriver.cli.serve" in loaded, done.stderr
    assert not loaded & {
        *("prometheus_client", "opentelemetry", "http.server"),
        *("graphdriver.serving.page_server", "graphdriver.serving.spans"),
    }
