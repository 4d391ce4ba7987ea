"""The tutorial, followed as it is written, with a real dockerd."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.documented import ROOT
from tests.support.followed import Command, Method, is_as_shown, steps
from tests.support.ground import tool

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.long]

PAGE = "docs/tutorial/first-driver.md"
DRIVER = "mydriver"

BEGINS = f"""
cd {shlex.quote(str(ROOT))}
trap 'kill $daemon; wait $daemon; kill $plugin' EXIT
"""
"""A step that fails ends what was started."""

ENDS = "trap - EXIT\n"


@pytest.fixture
def home() -> Iterator[Path]:
    """The home directory of the reader; the path of a socket in it must be short."""
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/dev/shm") as directory:
        yield Path(directory)


def typed(followed: Sequence[str | Command | Method]) -> str:
    """Return what the reader types into a shell, and into the driver's file."""
    script = [BEGINS]
    for number, step in enumerate(followed):
        if isinstance(step, Command):
            script.append(f"{{ {step.text}\n}} > ~/out.{number} 2>&1 || true")
        elif isinstance(step, Method):
            method = textwrap.indent(f"\n{step.text}", "    ")
            script.append(f"printf %s {shlex.quote(method)} >> {DRIVER}.py")
        else:
            script.append(step)
    return "\n".join([*script, ENDS])


def test_a_reader_writes_a_driver_and_runs_docker_on_it(home: Path) -> None:
    for program in ("dockerd", "docker", "busybox"):
        tool(program)
    name = f"{DRIVER}{secrets.token_hex(3)}"  # a plugin of that name may run on this machine
    followed = steps(PAGE)
    script = typed(followed).replace(DRIVER, name)
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        env=os.environ | {"HOME": str(home), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for number, step in enumerate(followed):
        if isinstance(step, Command):
            said = (home / f"out.{number}").read_text().replace(name, DRIVER)
            assert is_as_shown(step.shown, said), f"{step.text}\n{said}"
