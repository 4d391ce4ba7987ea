"""What is common to all commands."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.cli.command import CODES
from graphdriver.cli.main import COMMANDS
from graphdriver.errors import Kind
from tests.support.command import graphdriver

NEEDED = {
    "snapshotter": ["--address=/nowhere"],
    "call": ["--plugin=nobody", "Status"],
    "record": ["--plugin=nobody", "/nowhere"],
    "conform": ["--plugin=nobody"],
    "inspect": ["id"],
    "fsck": ["/nowhere"],
    "gc": ["/nowhere"],
    "migrate": ["/nowhere", "--from=vfs", "--to=py-vfs"],
    "share": ["ls", "/nowhere"],
    "units": ["plugin", "vfs"],
    "package": ["vfs", "--name=example/vfs:1"],
    "new": ["name"],
}
"""What a command must be given before it looks at what it does not know."""


def test_the_version_is_the_packages() -> None:
    said = graphdriver("--version").stdout.decode()
    assert said == f"graphdriver {importlib.metadata.version('graphdriver')}\n"


@pytest.mark.parametrize("command", ["", "serve", "drivers", "call"])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    said = graphdriver(*command.split(), "--help").stdout
    assert b"examples:" in said
    assert b"exit codes:" in said


def test_help_lists_each_command_once_with_its_summary() -> None:
    lines = [line.split(maxsplit=1) for line in graphdriver("--help").stdout.decode().splitlines()]
    for command in COMMANDS:
        assert lines.count([command.name, command.summary]) == 1


def test_every_kind_of_error_has_an_exit_code() -> None:
    assert CODES.keys() == set(Kind)


@pytest.mark.parametrize("command", [one.name for one in COMMANDS])
def test_an_unknown_option_is_answered_with_the_commands_own_usage(command: str) -> None:
    done = graphdriver(command, *NEEDED.get(command, []), "--no-such-option")
    assert done.returncode == 2
    said = done.stderr.decode()
    assert said.startswith(f"usage: graphdriver {command} ")
    assert said.endswith(f"graphdriver {command}: error: unknown arguments: --no-such-option\n")


def test_no_command_is_wrong_usage() -> None:
    assert graphdriver().returncode == 2


def test_what_the_kernel_refuses_is_told_with_the_path_and_no_number() -> None:
    done = graphdriver("record", "--socket=/nowhere.sock", "--output=/proc/nope", "/nowhere.sock")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == (
        "graphdriver record: /proc/nope: No such file or directory"
    )


def test_what_ran_out_is_named_with_its_limit(tmp_path: Path) -> None:
    few = "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6));"
    run = "runpy.run_module('graphdriver', run_name='__main__')"
    command = [sys.executable, "-c", f"{few} {run}", "serve", "vfs", f"--socket={tmp_path}/p.sock"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.decode()
        .splitlines()[-1]
        .endswith(": this process has 6 files open, as many as it may (RLIMIT_NOFILE)")
    )
