"""``graphdriver snapshotter``: what it prints, and what it says where it cannot start."""

from __future__ import annotations

import json
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.command import graphdriver
from tests.support.ground import engine
from tests.support.snapshotter import Snapshotter


def printed_config(*words: str) -> str:
    done = graphdriver("snapshotter", *words, "--print-config")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.root
def test_a_start_prints_one_line_that_leads_to_the_configuration(folder: Path) -> None:
    with Snapshotter(folder, "vfs") as one:
        said = one.log.read_text()
        (line,) = [line for line in said.splitlines() if "--print-config" in line]
        assert "[proxy_plugins" not in said
        assert len([line for line in said.splitlines() if "INFO" not in line]) == 2
    _, _, command = line.partition(": ")
    program, name, *words = shlex.split(command)
    assert (program, name) == ("graphdriver", "snapshotter")
    config = tomllib.loads(graphdriver("snapshotter", *words).stdout.decode())
    assert config["proxy_plugins"]["s"]["address"] == one.address
    assert config["proxy_plugins"]["s"]["exports"]["root"] == str(one.root)


@pytest.mark.root
def test_a_log_for_machines_has_no_other_lines(folder: Path) -> None:
    with Snapshotter(folder, "vfs", "--log-format", "json") as one:
        pass
    assert [json.loads(line) for line in one.log.read_text().splitlines()]


@pytest.mark.parametrize("root", ["/var/lib/x", '/a "quoted" \\ one', "/ä ö"])
def test_the_configuration_names_the_root_for_kubelet(root: str) -> None:
    config = tomllib.loads(printed_config("--address=/run/x.sock", f"--root={root}"))
    assert config["proxy_plugins"]["x"]["exports"] == {"root": root}


def test_the_configuration_names_the_default_root() -> None:
    config = tomllib.loads(printed_config("--address=/run/x.sock"))
    root = "/var/lib/containerd/io.containerd.snapshotter.v1.x"
    assert config["proxy_plugins"]["x"]["exports"] == {"root": root}


@pytest.mark.docker
def test_containerd_reads_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(printed_config("--address=/run/x.sock"))
    command = [*engine("containerd"), "--config", str(tmp_path / "config.toml"), "config", "dump"]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert tomllib.loads(dumped)["proxy_plugins"]["x"]["address"] == "/run/x.sock"


@pytest.mark.root
@pytest.mark.parametrize(
    ("root", "address", "said"),
    [
        (
            "/proc/nope",
            "{0}/s.sock",
            "the home /proc/nope cannot be made or used: /proc/nope: No such",
        ),
        ("/etc/passwd", "{0}/s.sock", "the home /etc/passwd cannot be made or used: "),
        ("/dev/null/x", "{0}/s.sock", "the home /dev/null/x cannot be made or used: /dev/null"),
        ("{0}/root", "/proc/nope/s.sock", "cannot listen on /proc/nope/s.sock: No such"),
        ("{0}/root", "/proc/s.sock", "cannot listen on /proc/s.sock: No such"),
    ],
)
def test_a_place_that_cannot_be_made_is_named_with_the_reason(
    folder: Path, root: str, address: str, said: str
) -> None:
    places = [f"--root={root.format(folder)}", f"--address={address.format(folder)}"]
    done = graphdriver("snapshotter", "vfs", *places)
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode
    assert last.startswith(f"graphdriver snapshotter: {said}")
    assert "; choose another " in last
