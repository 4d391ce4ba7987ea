"""Who may serve, who may call what is served, and whether they find it as ``serve`` says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.command import Serving, environment, graphdriver


def test_who_is_not_root_is_told_what_root_is_needed_for(folder: Path) -> None:
    # The interpreter and this checkout may be where only root can read; reading stays allowed.
    nobody = [
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    ]
    serve = [sys.executable, "-m", "graphdriver", "serve", "vfs", "--socket", f"{folder}/p.sock"]
    result = subprocess.run([*nobody, *serve], capture_output=True, env=environment(), timeout=60)
    assert result.returncode == 7
    assert b"only root can make; run it as root" in result.stderr
    assert b"Traceback" not in result.stderr
    assert not (folder / "p.sock").exists()


def test_the_socket_is_its_groups_and_nobody_elses(folder: Path) -> None:
    one = Serving(folder, "vfs", "--group", "54321").ready()
    try:
        made = os.stat(one.socket)
        assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (0, 54321, 0o660)
    finally:
        one.end()


def test_a_group_that_is_not_there_is_a_clear_error(folder: Path) -> None:
    result = graphdriver("serve", "vfs", "--group", "no-such-group", "--socket", f"{folder}/p.sock")
    assert result.returncode == 7
    assert b"there is no group no-such-group" in result.stderr


def test_a_plugin_is_called_by_the_name_it_was_served_under(folder: Path) -> None:
    name = f"py-called-{os.getpid()}"
    one = Serving(folder, "vfs", "--name", name).ready()
    try:
        found = graphdriver("call", "--plugin", name, "Activate")
        assert found.stdout == b'{"Implements": ["GraphDriver"]}\n'
    finally:
        assert one.end() == 0


def test_the_daemons_line_can_be_pasted_into_a_shell(folder: Path) -> None:
    root = f"{folder}/my disk; true"
    one = Serving(folder, "vfs", "--data-root", root).ready()
    try:
        line = next(one for one in one.out.read_text().splitlines() if "  dockerd" in one)
        assert shlex.split(line) == [
            *("dockerd", "--experimental", "--data-root", root, "-s", folder.name),
        ]
    finally:
        one.end()
