"""``graphdriver conform`` and ``graphdriver record``: what they say, write and end with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphdriver.conformance.cases import GROUPS
from tests.cli.conftest import ROOT, Serving, environment, graphdriver
from tests.plugin.waiting import wait_until

REMOVE = "layers/remove-of-nothing-succeeds"
NEST = "layers/gets-nest"

pytestmark = pytest.mark.root


def plugin(fault: str = "none") -> str:
    """Return a command that serves a plugin."""
    return shlex.join([sys.executable, "-m", "tests.conformance.faulty", fault, "{socket}"])


def conform(*words: str) -> subprocess.CompletedProcess[bytes]:
    return graphdriver("conform", *words, path=str(ROOT))


def without_times(text: bytes) -> str:
    return re.sub(r"\d+\.\d+ s", "T s", text.decode())


def test_a_right_plugin_passes() -> None:
    result = conform("--exec", plugin(), "--only", f"{NEST},{REMOVE}")
    assert (result.returncode, result.stderr) == (0, b"")
    assert without_times(result.stdout) == (
        f"passed    {REMOVE}  T s\npassed    {NEST}  T s\n\n2 passed, 0 failed, in T s\n"
    )


def test_a_wrong_plugins_author_is_told_all_that_helps_to_mend_it() -> None:
    result = conform("--exec", plugin("remove-of-nothing-is-an-error"), "--only", REMOVE)
    assert result.returncode == 1
    told = without_times(result.stdout)
    assert told.startswith(
        f"failed    {REMOVE}  T s\n\n{REMOVE} failed\n  checks:   Remove of a layer"
    )
    for line in ("  why:      A daemon", "  what:     a call", "  expected: success"):
        assert f"\n{line}" in told
    assert "  saw:      RemoteError: " in told
    assert told.endswith("\n\n0 passed, 1 failed, in T s\n")


def test_programs_read_the_same(folder: Path) -> None:
    files = ["--junit", str(folder / "junit.xml"), "--json", str(folder / "json")]
    only = ["--only", f"{REMOVE},{NEST}"]
    conform("--exec", plugin("remove-of-nothing-is-an-error"), *only, *files)
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["2", "1", "0"]
    cases = {f"{one.get('classname')}/{one.get('name')}": one for one in suite}
    failure = cases[REMOVE].find("failure")
    assert failure is not None
    assert "expected: success" in str(failure.text)
    assert len(cases[NEST]) == 0
    written = json.loads((folder / "json").read_text())
    assert [(one["id"], one["outcome"]) for one in written] == [
        (REMOVE, "failed"),
        (NEST, "passed"),
    ]
    assert written[0]["expected"] == "success"


def test_a_case_that_needs_to_kill_is_not_run_on_a_plugin_that_runs(serving: Serving) -> None:
    case = next(
        case.id
        for group in GROUPS
        for case in group.cases
        if "--exec" in [need.value for need in case.needs]
    )
    result = conform("--socket", serving.socket, "--only", f"{case},{NEST}")
    assert result.returncode == 0, result.stdout
    assert f"not run   {case}: it needs --exec" in without_times(result.stdout)
    assert b"1 passed, 0 failed, 1 not run" in result.stdout
    assert serving.process.poll() is None


def test_a_terminal_gets_a_table_that_moves() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "graphdriver", "conform", "--exec", plugin(), "--only", "layers"],
        stdout=theirs,
        env=environment(path=str(ROOT)),
    ) as process:
        os.close(theirs)
        told = b""
        try:
            while piece := os.read(ours, 65536):
                told += piece
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    count = len(next(group for group in GROUPS if group.name == "layers").cases)
    assert process.returncode == 0
    text = told.decode()
    assert f"{count} of {count} " in text
    assert "\x1b[1A" in text
    assert NEST in text


def test_every_case_is_listed_with_its_reason() -> None:
    result = conform("--list")
    told = result.stdout.decode()
    for group in GROUPS:
        for case in group.cases:
            assert f"{case.id}" in told
            assert f"\n  {case.checks}\n  Why: {case.why.text}\n" in told


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (
            ["--exec", "true {socket}"],
            11,
            "the plugin ended with 0; the last that it wrote: nothing",
        ),
        (["--exec", "true"], 2, "put {socket} where its command takes the path of its socket"),
        (["--socket", "/nowhere.sock"], 11, "/nowhere.sock does not answer"),
        (["--snapshotter", "/nowhere.sock"], 2, "--snapshotter needs --home"),
        (
            ["--snapshotter", "/nowhere.sock", "--home", "/nowhere"],
            11,
            "no snapshotter listens at /nowhere.sock",
        ),
        (["--list", "--only", "layrs"], 2, "no case is called 'layrs'"),
        (["--exec", "x {socket}", "--home", "/etc"], 2, "--home /etc is not empty"),
        (["--exec", "no-such-program {socket}"], 1, "no-such-program"),
    ],
)
def test_what_cannot_be_examined_is_told(words: list[str], code: int, text: str) -> None:
    result = conform(*words)
    assert result.returncode == code
    assert result.stderr.decode().startswith("graphdriver conform: ")
    assert text in result.stderr.decode()
    assert result.stdout == b""


def test_layers_are_kept_where_home_says(folder: Path) -> None:
    home = folder / "new" / "home"
    assert conform("--exec", plugin(), "--only", NEST, "--home", str(home)).returncode == 0
    assert (home / ".graphdriver").is_dir()


def test_nothing_is_left_behind(folder: Path) -> None:
    environment_of_it = {**environment(path=str(ROOT)), "TMPDIR": str(folder)}
    subprocess.run(
        [sys.executable, "-m", "graphdriver", "conform", "--exec", plugin(), "--only", "layers"],
        check=True,
        capture_output=True,
        env=environment_of_it,
    )
    assert os.listdir(folder) == []


def test_a_kit_that_is_ended_ends_the_plugin_that_it_started(folder: Path) -> None:
    words = ["conform", "--only", "activation/idle*", "--exec", plugin()]
    with subprocess.Popen(
        [sys.executable, "-m", "graphdriver", *words],
        env={**environment(path=str(ROOT)), "TMPDIR": str(folder)},
    ) as kit:
        wait_until(lambda: _running(folder) != [])
        kit.terminate()
        assert kit.wait(60) == 130
    assert _running(folder) == []
    assert os.listdir(folder) == []


def _running(folder: Path) -> list[str]:
    """Return the plugins that were listening below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = process.read_bytes().split(b"\0")
            is_below = any(word.startswith(os.fsencode(folder)) for word in words)
            if b"tests.conformance.faulty" in words and is_below:
                found.append(process.parent.name)
    return found


def test_a_recorder_writes_until_it_is_stopped(serving: Serving, folder: Path) -> None:
    words = ["record", "--socket", serving.socket, "--output", str(folder / "t")]
    with subprocess.Popen(
        [sys.executable, "-m", "graphdriver", *words, str(folder / "r.sock")],
        env=environment(),
    ) as recorder:
        while not (folder / "r.sock").exists():
            assert recorder.poll() is None
        result = graphdriver("call", "--socket", str(folder / "r.sock"), "Activate")
        assert json.loads(result.stdout) == {"Implements": ["GraphDriver"]}
        recorder.terminate()
        assert recorder.wait(60) == 0
    assert not (folder / "r.sock").exists()
    (line,) = (folder / "t").read_text().splitlines()
    assert '1  Activate  ->  200 {"Implements":["GraphDriver"]}  ' in line
