"""``graphdriver doctor`` as a process: which homes it looks at, what it prints, its exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import graphdriver
from graphdriver.cli.plugin_places import read_places
from tests.support import command
from tests.support.command import Serving
from tests.support.traces import socket_in

pytestmark = pytest.mark.root


def findings(*words: str) -> dict[str, list[dict[str, str]]]:
    """Return what the command finds, by check."""
    done = command.graphdriver("doctor", *words, "--json")
    assert done.returncode in (0, 13, 14), done.stderr
    by_check: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        assert set(one) == {"severity", "check", "code", "subject", "text", "advice"}
        by_check.setdefault(one["check"], []).append(one)
    return by_check


def test_a_served_home_is_looked_at_by_its_plugins_name_or_path(
    serving: Serving, folder: Path
) -> None:
    home = folder / "data" / "vfs"
    assert serving.call("Init", f"Home={home}").returncode == 0
    name = Path(serving.socket).stem
    for words in (
        ["--plugin", name],
        ["--home", str(home)],
        ["--data-root", str(folder / "data")],
    ):
        found = findings(*words)
        (one, *_) = found["home"]
        assert one["text"].startswith("vfs for docker on ")
        assert f"served by process {serving.process.pid} " in one["text"]
        assert one["text"].endswith(f", version {graphdriver.__version__}")
        assert found["mounts"][0]["text"] == "0 mounts below it, 0 of them explained"
        assert any(one["code"] == "limits" for one in found["limits"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plugin", "no-such-plugin"], "no daemon has sent Init to the plugin no-such-plugin"),
        (["--home", "/no/such/home"], "--home /no/such/home is not a directory"),
        (["--data-root", "/no/such"], "--data-root /no/such is not a directory"),
    ],
)
def test_what_is_not_there_is_wrong_usage(words: list[str], said: str) -> None:
    done = command.graphdriver("doctor", *words)
    assert (done.returncode, said in done.stderr.decode()) == (2, True)


def test_each_finding_is_a_line_with_advice_and_the_exit_code_tells_the_worst(
    folder: Path,
) -> None:
    (home := folder / "home" / ".graphdriver").mkdir(parents=True, mode=0o700)
    done = command.graphdriver(
        "doctor", "--home", str(home.parent), "--daemon-socket", f"{folder}/none"
    )
    assert done.returncode == 13  # its mode lets other users in
    said = done.stdout.decode()
    assert f"warning  home         {home.parent}: it has mode 0755: users of this machine" in said
    assert f"to do: chown root {home.parent}; chmod 0710 {home.parent}" in said
    (home / "home.json").write_text("\x1b[2J{")
    done = command.graphdriver("doctor", "--home", str(home.parent))
    assert done.returncode == 14
    assert b"\x1b" not in done.stdout
    assert b"damage   home " in done.stdout


def test_places_are_read_in_a_daemons_order_whatever_is_in_them(folder: Path) -> None:
    sockets, specs = folder / "sockets", folder / "specs"
    sockets.mkdir()
    specs.mkdir()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as served,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale,
    ):
        served.bind(str(sockets / "served.sock"))
        served.listen(1)
        stale.bind(str(sockets / "stale.sock"))
        (sockets / "file.sock").write_text("no socket")
        (sockets / "dangling.sock").symlink_to("nowhere")
        (sockets / "loop.sock").symlink_to("loop.sock")
        (specs / "served.spec").write_text(f"unix://{sockets}/served.sock")
        (specs / "refused.spec").write_text("tcp://127.0.0.1:1")
        (specs / "damaged.json").write_text("{" * 10_000)
        (specs / "binary.spec").write_bytes(bytes(range(256)))
        (specs / "directory.spec").mkdir()
        (specs / "inner").mkdir()
        (specs / "inner" / "inner.json").write_text('{"Addr": "https://[::1]:1"}')
        (specs / "evil\x1b[2J\n.spec").write_text("tcp://192.0.2.1:x")
        places = read_places(str(sockets), [str(specs), str(folder / "missing")])
    listens = {place.name: place.listens for place in places if not place.problem}
    assert listens == {"served": True, "stale": False, "refused": False, "inner": False}
    assert [place.is_socket for place in places if place.name == "served"] == [True, False]
    assert {place.name for place in places if place.problem} == {
        *("file", "dangling", "loop", "damaged", "binary", "directory", "evil\x1b[2J\n")
    }


def test_a_plugin_that_was_killed_leaves_a_place_that_is_told_of(folder: Path) -> None:
    one = Serving(folder, "vfs").ready()
    one.process.kill()
    one.process.wait(60)
    spec = f"/etc/docker/plugins/{Path(socket_in(folder)).stem}.spec"
    (found,) = [place for place in findings()["sockets"] if place["subject"] == spec]
    assert (found["code"], found["severity"]) == ("stale-place", "warning")
    assert found["advice"] == f"start the plugin, or remove the file: rm {spec}"


@pytest.mark.parametrize(
    "limited",
    [
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"],
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys && exec "$@"', "sh"],
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"],
    ],
    ids=["no /proc", "no /sys", "no capabilities", "no ptrace"],
)
def test_what_cannot_be_looked_at_is_told_and_the_rest_is_looked_at(
    folder: Path, limited: list[str]
) -> None:
    (folder / "home" / ".graphdriver").mkdir(parents=True)
    folder.chmod(0o755)
    program = [sys.executable, "-m", "graphdriver", "doctor", "--home", f"{folder}/home", "--json"]
    done = subprocess.run([*limited, *program], capture_output=True, env=command.environment())
    assert done.returncode in (13, 14), done.stderr
    assert {one["check"] for one in json.loads(done.stdout)["findings"]} >= {
        *("kernel", "home", "daemon", "mounts", "propagation", "limits")
    }
    assert done.stderr == b""
