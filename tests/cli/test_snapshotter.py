"""``graphdriver snapshotter``: what it prints, and what it says where it cannot start."""

from __future__ import annotations

import json
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from graphdriver.containerd.config import Snapshotter as Named
from graphdriver.containerd.config import Version, config, missing
from tests.support.command import graphdriver
from tests.support.ground import engine
from tests.support.snapshotter import DRIVERS, Snapshotter


def printed_config(*words: str, containerd: str = "1.6.20") -> str:
    done = graphdriver("snapshotter", *words, "--print-config", "--containerd", containerd)
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
    printed = tomllib.loads(printed_config(*words))
    assert printed["proxy_plugins"]["s"]["address"] == one.address
    assert printed["proxy_plugins"]["s"]["exports"]["root"] == str(one.root)


@pytest.mark.root
def test_a_log_for_machines_has_no_other_lines(folder: Path) -> None:
    with Snapshotter(folder, "vfs", "--log-format", "json") as one:
        pass
    assert [json.loads(line) for line in one.log.read_text().splitlines()]


@pytest.mark.parametrize("root", ["/var/lib/x", '/a "quoted" \\ one', "/ä ö"])
def test_the_configuration_names_the_root_for_kubelet(root: str) -> None:
    printed = tomllib.loads(printed_config("--address=/run/x.sock", f"--root={root}"))
    assert printed["proxy_plugins"]["x"]["exports"]["root"] == root


def test_the_configuration_names_the_default_root() -> None:
    printed = tomllib.loads(printed_config("--address=/run/x.sock"))
    root = "/var/lib/containerd/io.containerd.snapshotter.v1.x"
    assert printed["proxy_plugins"]["x"]["exports"]["root"] == root


@pytest.mark.docker
def test_containerd_reads_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(printed_config("--address=/run/x.sock"))
    command = [*engine("containerd"), "--config", str(tmp_path / "config.toml"), "config", "dump"]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert tomllib.loads(dumped)["proxy_plugins"]["x"]["address"] == "/run/x.sock"


@pytest.mark.parametrize("containerd", ["2.1", "2.2", "2.4"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_layers_are_unpacked_in_parallel_where_driver_and_containerd_can(
    driver: str, containerd: str
) -> None:
    can = containerd != "2.1" and driver not in ("vfs", "btrfs")
    words = (driver, "--address=/run/x.sock")
    printed = tomllib.loads(printed_config(*words, containerd=containerd))
    assert printed["proxy_plugins"]["x"].get("capabilities") == (["rebase"] if can else None)
    assert "x-diff" in printed["proxy_plugins"]
    transfer = printed["plugins"]["io.containerd.transfer.v1.local"]
    assert transfer.get("max_concurrent_unpacks") == (4 if can else None)
    assert transfer["unpack_config"][0]["differ"] == "x-diff"


def test_with_a_shared_store_layers_are_unpacked_one_after_the_other() -> None:
    words = ("overlay2", "--address=/run/x.sock", "--shared=/mnt/layers")
    printed = tomllib.loads(printed_config(*words, containerd="2.4"))
    assert "capabilities" not in printed["proxy_plugins"]["x"]
    transfer = printed["plugins"]["io.containerd.transfer.v1.local"]
    assert "max_concurrent_unpacks" not in transfer


@pytest.mark.root
def test_the_driver_of_a_root_is_known_from_its_record(folder: Path) -> None:
    with Snapshotter(folder, "overlay2") as one:
        words = (f"--address={one.address}", f"--root={one.root}")
        printed = tomllib.loads(printed_config(*words, containerd="2.2"))
    assert printed["proxy_plugins"]["s"]["capabilities"] == ["rebase"]


def test_more_capabilities_and_other_numbers_are_no_less(tmp_path: Path) -> None:
    one = Named("x", "/run/x.sock", "/var/lib/x", "x86_64", True)
    version = Version.parse("2.2")
    text = config(one, version)
    path = tmp_path / "config.toml"
    path.write_text(text.replace('["rebase"]', '["remap-ids", "rebase"]').replace("s = 4", "s = 9"))
    assert missing(str(path), one, version) == []
    path.write_text(text.replace('["rebase"]', '["remap-ids"]').replace("s = 4", "s = 1"))
    assert len(missing(str(path), one, version)) == 2


VERSIONS = {"1.6.20": 2, "1.7": 2, "v2.0.0-rc.1": 3, "2.2.9": 3, "2.3": 4, "2.4.1": 4}


@pytest.mark.parametrize(("containerd", "file_version"), VERSIONS.items())
def test_each_containerd_gets_what_it_reads(containerd: str, file_version: int) -> None:
    printed = tomllib.loads(printed_config("--address=/run/x.sock", containerd=containerd))
    assert printed["version"] == file_version
    cri = printed["plugins"][
        "io.containerd.grpc.v1.cri" if file_version == 2 else "io.containerd.cri.v1.images"
    ]
    assert (cri.get("containerd") or cri)["snapshotter"] == "x"
    assert ("x-diff" in printed["proxy_plugins"]) == (not containerd.startswith("1.6"))
    transfer = printed["plugins"].get("io.containerd.transfer.v1.local")
    assert (transfer is None) == containerd.startswith("1.6")
    if transfer:
        assert transfer["unpack_config"][0]["differ"] == "x-diff"


def test_containerd_1_7_before_its_release_20_has_no_diff_service() -> None:
    printed = tomllib.loads(printed_config("--address=/run/x.sock", containerd="1.7.19"))
    assert "x-diff" not in printed["proxy_plugins"]
    unpack = printed["plugins"]["io.containerd.transfer.v1.local"]["unpack_config"]
    assert unpack[0]["differ"] == "walking"


@pytest.mark.parametrize("version", ["", "x", "1", "1.5.9", "0.9", "9999.1"])
def test_what_is_no_version_is_refused(version: str) -> None:
    words = ("--address=/run/x.sock", "--print-config", "--containerd", version)
    done = graphdriver("snapshotter", *words)
    assert done.returncode
    assert b"containerd" in done.stderr.splitlines()[-1]


def checked(path: Path, containerd: str) -> tuple[int, list[str]]:
    words = ("--address=/run/x.sock", "--check-config", str(path), "--containerd", containerd)
    done = graphdriver("snapshotter", *words)
    return done.returncode, done.stdout.decode().splitlines()


@pytest.mark.parametrize("is_able", [True, False])
@pytest.mark.parametrize("containerd", VERSIONS)
def test_the_printed_configuration_lacks_nothing_and_each_of_its_lines_is_missed(
    tmp_path: Path, containerd: str, is_able: bool
) -> None:
    one = Named("x", "/run/x.sock", "/var/lib/x", "x86_64", is_able)
    version = Version.parse(containerd)
    path = tmp_path / "config.toml"
    path.write_text(config(one, version))
    assert missing(str(path), one, version) == []
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        key = line.partition(" = ")[0]
        if line[0] in "#[\n" or key in {"version", "enable_remote_snapshot_annotations"}:
            continue
        path.write_text("".join(lines[:number] + lines[number + 1 :]))
        missed = missing(str(path), one, version)
        assert any(f"] {key} is not set; set {line.strip()}" in one for one in missed), line


def test_what_a_file_imports_counts_and_a_wrong_value_is_shown(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('version = 3\nimports = ["more/*.toml"]\n')
    (tmp_path / "more").mkdir()
    text = printed_config("--address=/run/x.sock", containerd="2.1")
    (tmp_path / "more/one.toml").write_text(text.replace("/run/x.sock", "/run/y.sock", 1))
    code, missed = checked(tmp_path / "config.toml", "2.1")
    said = '[proxy_plugins.x] address is "/run/y.sock"; set address = "/run/x.sock"'
    assert (code, missed) == (13, [said])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 1", "version 1"),
        ("", "version 1"),
        ("version = [", "cannot be read as a configuration"),
        ("x = " + "[" * 100_000, "cannot be read as a configuration"),
    ],
)
def test_what_is_no_configuration_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    words = ("--address=/run/x.sock", "--check-config", str(tmp_path / "config.toml"))
    done = graphdriver("snapshotter", *words, "--containerd=2.1")
    assert done.returncode == 2
    assert said in done.stderr.decode().splitlines()[-1]


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
