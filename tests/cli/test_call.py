"""``graphdriver call``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from graphdriver import Client, __version__
from graphdriver.docker.protocol import CALLS
from tests.support.command import Serving, environment, graphdriver


def a_tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"world"))
    return data.getvalue()


def test_a_layer_goes_in_by_stdin_and_comes_out_by_stdout(serving: Serving, folder: Path) -> None:
    def answer(*words: str, stdin: bytes = b"") -> object:
        result = serving.call(*words, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert answer("Init", f"Home={folder}/home", "Opt=sync=none") == {}
    assert answer("Capabilities") == {"Capabilities": {"ReproducesExactDiffs": False}}
    assert answer("Create", "ID=base") == {}
    assert answer("ApplyDiff", "ID=base", stdin=a_tar()) == {"Size": 5}
    assert answer("CreateReadWrite", "id=top", "PARENT=base") == {}
    assert answer("Exists", "ID=top") == {"Exists": True}
    assert answer("Get", "ID=top") == {"Dir": f"{folder}/home/top/root"}
    assert (folder / "home/top/root/hello").read_bytes() == b"world"
    (folder / "home/top/root/new").write_bytes(b"123")
    assert answer("Put", "ID=top") == {}
    assert answer("Changes", "ID=top", "Parent=base") == {"Changes": [{"Path": "/new", "Kind": 1}]}
    assert answer("DiffSize", "ID=top", "Parent=base") == {"Size": 3}
    assert answer("GetMetadata", "ID=top") == {"Metadata": {}}
    added = [["Sync", "none"], ["Plugin Version", __version__]]
    assert answer("Status") == {"Status": [["Copies", "full"], *added]}
    diff = serving.call("Diff", "ID=top", "Parent=base")
    assert diff.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(diff.stdout)) as tar:
        assert tar.getnames() == ["new"]
    assert answer("Remove", "ID=top") == {}
    assert answer("Cleanup") == {}
    assert answer("Exists", "ID=top") == {"Exists": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Get"], b"ID= is missing"),
        (["Get", "ID=a", "Parent=b"], b"this call takes no Parent=; it takes ID, MountLabel"),
        (["Get", "a"], b"KEY=VALUE"),
        (["Fly"], b"invalid choice"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_called(words: list[str], said: bytes) -> None:
    result = graphdriver("call", "--socket", "/nowhere.sock", *words)
    assert result.returncode == 2
    assert said in result.stderr


def test_the_help_lists_the_calls_and_those_that_need_force() -> None:
    said = " ".join(graphdriver("call", "--help").stdout.decode().split())
    assert ", ".join(call.name for call in CALLS) in said
    *most, last = [call.name for call in CALLS if call.disturbs]
    assert f"refuses {', '.join(most)} and {last} while" in said


def test_the_plugins_own_words_are_shown(serving: Serving) -> None:
    result = serving.call("Get", "ID=a")
    assert result.returncode == 8
    assert b"the plugin is not initialised" in result.stderr


def test_each_kind_of_refusal_has_the_exit_code_that_the_help_promises(
    serving: Serving, folder: Path
) -> None:
    def code(*words: str, stdin: bytes = b"") -> int:
        result = serving.call(*words, stdin=stdin)
        assert result.stderr.count(b"\n") == (1 if result.returncode else 0)
        return result.returncode

    assert code("Create", "ID=a") == 8
    assert code("Init", f"Home={folder}/home") == 0
    assert code("Create", "ID=a") == 0
    assert code("Create", "ID=a") == 4
    assert code("Create", "ID=b", "Parent=c") == 3
    assert code("Get", "ID=b") == 3
    assert code("Create", "ID=b", "Opt=size=1G") == 7
    assert code("Get", "ID=../a") == 2
    assert code("ApplyDiff", "ID=a", stdin=b"no tar" * 100) == 9
    assert code("Get", "ID=a") == 6
    many = [f"Opt=k{n}={'v' * 60_000}" for n in range(20)]
    assert code("Create", "ID=b", *many) == 12
    assert code("Cleanup") == 0


def test_a_call_without_a_method_asks_for_the_method_alone() -> None:
    result = graphdriver("call", "--plugin", "any")
    assert result.returncode == 2
    assert result.stderr.endswith(b"the following arguments are required: METHOD\n"), result.stderr


def test_a_socket_that_does_not_exist_is_reported_without_an_error_number() -> None:
    result = graphdriver("call", "--socket", "/nowhere.sock", "Status")
    assert result.returncode == 11
    assert b"/nowhere.sock does not answer: No such file or directory; check" in result.stderr


def test_no_plugin_is_an_exit_code_of_its_own(folder: Path) -> None:
    assert graphdriver("call", "--socket", f"{folder}/none", "Status").returncode == 11
    result = graphdriver("call", "--plugin", f"none-{os.getpid()}", "Status")
    assert result.returncode == 11
    assert b"no socket in /run/docker/plugins" in result.stderr


@pytest.mark.parametrize("command", [("call", "Status"), ("conform",), ("record", "taped")])
def test_a_path_where_a_name_belongs_is_an_error_that_names_the_right_option(
    command: tuple[str, ...],
) -> None:
    result = graphdriver(*command, "--plugin", "/run/p.sock")
    assert result.returncode == 2
    expected = b"'/run/p.sock' is not a plugin's name; name a socket's path with --socket\n"
    assert result.stderr.endswith(expected), result.stderr


def test_a_diff_whose_reader_has_enough_ends_without_a_trace(
    serving: Serving, folder: Path
) -> None:
    assert serving.call("Init", f"Home={folder}/home").returncode == 0
    assert serving.call("Create", "ID=a").returncode == 0
    (folder / "home/a/root/big").write_bytes(bytes(4 << 20))
    with subprocess.Popen(
        [sys.executable, "-m", "graphdriver", "call", "--socket", serving.socket, "Diff", "ID=a"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(512)) == 512
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert said == b""
    assert serving.call("Remove", "ID=a").returncode == 0


def test_a_call_by_hand_under_a_living_daemon_is_made_only_with_force(
    serving: Serving, folder: Path
) -> None:
    with Client(serving.socket) as daemon:  # this very process
        daemon.init(f"{folder}/home", [], [], [])
        daemon.create("a", "", "", {})
        daemon.get("a", "")
        refused = serving.call("Cleanup")
        assert refused.returncode == 5
        assert f"for process {os.getpid()}, which lives".encode() in refused.stderr
        assert serving.call("Exists", "ID=a").stdout == b'{"Exists": true}\n'
        assert serving.call("--force", "Remove", "ID=a").returncode == 0
        assert not daemon.exists("a")
