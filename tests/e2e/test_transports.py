"""A daemon on a plugin, by every way that leads from one to the other."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.certificates import Certificates, make
from tests.support.daemon import DockerError
from tests.support.plugin_process import SOCKETS, SPECS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("driver", ["overlay2"], indirect=True)
"""How a daemon comes to a plugin does not depend on the driver."""

Way = Callable[[Path], list[str]]


def free_port() -> int:
    # A daemon remembers the port that it has found, so that of a plugin that is restarted is a set one.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def in_its_place(_: Path) -> list[str]:
    return []


def elsewhere(folder: Path) -> list[str]:
    return ["--socket", f"{folder}/a socket, %41.sock"]


def on_tcp(_: Path) -> list[str]:
    return ["--tcp", f"127.0.0.1:{free_port()}"]


def with_tls(folder: Path) -> list[str]:
    return tls_options(make(folder / "tls"))


def tls_options(files: Certificates) -> list[str]:
    return [
        *("--tcp", f"127.0.0.1:{free_port()}", "--tlscacert", files["ca"]),
        *("--tlscert", files["plugin"], "--tlskey", files["plugin-key"]),
        *("--daemon-tlscert", files["daemon"], "--daemon-tlskey", files["daemon-key"]),
    ]


@pytest.mark.parametrize(
    ("way", "leads", "to"),
    [
        (in_its_place, "", "/run/docker/plugins/"),
        (elsewhere, "spec", "/"),
        (on_tcp, "spec", "tcp://127.0.0.1:"),
        (with_tls, "json", "https://127.0.0.1:"),
        (in_its_place, "passed", "/run/docker/plugins/"),
    ],
    ids=["in its place", "elsewhere", "TCP", "TLS", "passed by systemd"],
)
@pytest.mark.reaches(
    *("Activate", "Init", "Capabilities", "Status", "Create", "ApplyDiff", "CreateReadWrite"),
    *("Get", "Put", "Changes", "Diff", "Remove", "Cleanup"),
)
def test_a_daemon_finds_the_plugin_and_works_on_it(
    engines: Engines, driver: str, small: Path, tmp_path: Path, way: Way, leads: str, to: str
) -> None:
    name = f"py-way-{secrets.token_hex(4)}"
    passed = leads == "passed"
    with engines.on_plugin(driver, name=name, options=way(tmp_path), is_passed=passed) as (
        daemon,
        plugin,
    ):
        assert f"serving {driver} on {to}" in plugin.log.read_text()
        files = {path.name for path in (*SPECS.glob(f"{name}*"), *SOCKETS.glob(f"{name}*"))}
        assert files == {f"{name}.{leads}" if leads in ("spec", "json") else f"{name}.sock"}

        is_named = "(dockerd) of user 0 connected" in plugin.log.read_text()
        assert is_named == (way not in (on_tcp, with_tls))

        daemon.docker("load", "--input", str(small))
        assert daemon.run("small", "cat", "/data/file") == "from the image\n"
        command = ["sh", "-c", "echo new > /data/new && exec sleep 600"]
        daemon.docker("run", "--detach", "--name=lives", "--network=none", "small", *command)
        wait_until(lambda: daemon.docker("diff", "lives"))  # it has run so far
        plugin.stop()
        plugin.start()
        assert sorted(daemon.docker("diff", "lives").splitlines()) == ["A /data/new", "C /data"]
        daemon.docker("commit", "lives", "committed")
        assert daemon.run("committed", "cat", "/data/new") == "new\n"
        daemon.docker("rm", "--force", "lives")
        daemon.docker("rmi", "committed", "small")
    left = [*SPECS.glob(f"{name}*"), *SOCKETS.glob(f"{name}*")]
    assert left == []


@pytest.mark.reaches()
def test_a_daemon_with_a_certificate_of_another_authority_gets_nowhere(
    engines: Engines, driver: str, tmp_path: Path
) -> None:
    ours, others = make(tmp_path / "ours"), make(tmp_path / "others")
    with engines.plugin(driver, options=tls_options(ours)) as plugin:
        spec = SPECS / f"{plugin.name}.json"
        said = json.loads(spec.read_text())
        said["TLSConfig"] |= {"CertFile": others["daemon"], "KeyFile": others["daemon-key"]}
        spec.write_text(json.dumps(said))
        refused = pytest.raises(DockerError, match="driver not supported")
        with engines.daemon(plugin.name) as daemon, refused:
            daemon.start()
        assert plugin.calls() == []
        assert "TLS handshake failed: [SSL: CERTIFICATE_VERIFY_FAILED]" in plugin.log.read_text()
        spec.unlink()  # it is not the plugin's any more
