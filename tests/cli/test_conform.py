"""``graphdriver conform`` and ``graphdriver record``: what they say, write and end with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphdriver.conformance.kit.run import chosen
from graphdriver.conformance.plugin.cases import FIRST, GROUPS
from tests.support.command import Serving, environment, graphdriver
from tests.support.documented import ROOT
from tests.support.waiting import wait_until

REMOVE = "layers/remove-of-nothing-succeeds"
NEST = "layers/gets-nest"

pytestmark = pytest.mark.root


def plugin(fault: str = "none") -> str:
    """Return a command that serves a plugin."""
    return shlex.join([sys.executable, "-m", "tests.conformance.plugin.faulty", fault, "{socket}"])


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
    for line in ("  why:      A daemon", "  what:     Remove", "  expected: success"):
        assert f"\n{line}" in told
    assert "  saw:      RemoteError: " in told
    assert told.endswith("\n\n0 passed, 1 failed, in T s\n")


def test_a_run_begins_with_the_cases_to_solve_first_and_stops_when_enough_have_failed() -> None:
    only = "layers,activation/member*,activation/implements*"
    words = ["--only", only, "--maxfail", "1"]
    result = conform("--exec", plugin("new-layers-are-closed"), *words)
    told = without_times(result.stdout)
    ran = [line.split()[1] for line in told.partition("\n\n")[0].splitlines()]
    assert ran == list(FIRST[:4])
    assert told.endswith(
        """

group                 passed  failed  optional failed  not run
activation                 1
layers                     2       1

3 passed, 1 failed, in T s
"""
    )
    count = len(chosen(GROUPS, only))
    assert result.stderr.decode() == (
        f"stopped after 1 failures: {count - 4} of {count} cases did not run; --maxfail 0 runs all\n"
    )


def test_optional_cases_are_run_last_and_their_failures_stop_nothing() -> None:
    optional, required = "activation/member-names-in-any-case", "activation/unknown-call*"
    fault = plugin("names-in-one-case")
    words = ["--exec", fault, "--only", f"{optional},{required}", "--maxfail", "1"]
    result = conform(*words)
    assert result.returncode == 0
    assert b"1 passed, 0 failed, 1 optional failed" in result.stdout
    assert result.stdout.startswith(b"passed ")


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
            assert f"\n  {case.checks}\n  Why: {case.why}\n" in told


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (
            ["--exec", "true {socket}"],
            11,
            "the plugin ended with 0; it wrote nothing",
        ),
        (["--exec", "true"], 2, "write {socket} where the command takes the path of the socket"),
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


def test_layers_are_kept_where_home_says_and_it_is_left_as_it_was(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    os.utime(home, (0, 0))
    for _ in range(2):  # a home that was left with something in it is refused
        result = conform("--exec", plugin(), "--only", NEST, "--home", str(home))
        assert result.returncode == 0, result.stderr
        assert os.listdir(home) == []
    assert home.stat().st_mtime > 0
    new = folder / "new" / "home"
    assert conform("--exec", plugin(), "--only", NEST, "--home", str(new)).returncode == 0
    assert not new.exists()


@pytest.mark.parametrize("option", ["--junit", "--json"])
def test_a_file_that_cannot_be_written_is_told_before_the_run(option: str, folder: Path) -> None:
    result = conform("--exec", plugin(), "--only", NEST, option, f"{folder}/missing/report")
    assert (result.returncode, result.stdout) == (1, b"")
    assert f"{folder}/missing/report: No such file or directory" in result.stderr.decode()


def test_the_list_is_told_to_programs_as_well(folder: Path) -> None:
    result = conform("--list", "--json", f"{folder}/cases", "--only", "layers")
    assert (result.returncode, result.stdout) == (0, b"")
    (group,) = [group for group in GROUPS if group.name == "layers"]
    told = json.loads((folder / "cases").read_text())
    assert [one["id"] for one in told] == [case.id for case in group.cases]
    assert told[0]["checks"] == group.cases[0].checks
    assert told[0]["why"] == group.cases[0].why


@pytest.mark.parametrize("option", ["--junit", "--home", "--plugin-log", "--maxfail"])
def test_an_option_that_would_be_ignored_is_refused(option: str, folder: Path) -> None:
    result = conform("--list", option, "0" if option == "--maxfail" else f"{folder}/x")
    assert result.returncode == 2
    assert f"{option} has no effect with --list" in result.stderr.decode()
    assert not (folder / "x").exists()


def test_an_interrupt_leaves_a_summary_and_the_reports(folder: Path) -> None:
    files = ["--junit", f"{folder}/junit", "--json", f"{folder}/json"]
    words = ["conform", "--only", f"{NEST},activation/idle*", "--exec", plugin(), *files]
    with subprocess.Popen(
        [sys.executable, "-m", "graphdriver", *words],
        env=environment(path=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as kit:
        assert kit.stdout and kit.stderr
        told = kit.stdout.readline()  # the case that waits is the next one
        kit.send_signal(signal.SIGINT)
        told += kit.stdout.read()
        assert b"interrupted: 1 of 2 cases did not run" in kit.stderr.read()
        assert kit.wait(60) == 130
    assert b"\n1 passed, 0 failed" in told
    assert ElementTree.parse(folder / "junit").getroot().get("tests") == "1"
    assert len(json.loads((folder / "json").read_text())) == 1


def test_a_plugin_that_refuses_everything_without_a_word_is_told_by_call_and_status(
    folder: Path,
) -> None:
    path = folder / "mute.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), _Mute) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = conform("--socket", str(path))
        server.shutdown()
    assert result.returncode == 1
    assert result.stderr.decode() == (
        "graphdriver conform: Activate: the plugin answered with status 404 and no text; "
        "expected 200, or a text that says what is wrong; "
        "no case runs before a plugin accepts Activate and Init\n"
    )


class _Mute(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def test_nothing_is_left_behind(folder: Path) -> None:
    environment_of_it = {**environment(path=str(ROOT)), "TMPDIR": str(folder)}
    command = shlex.join([sys.executable, "-m", "graphdriver", "serve", "overlay2"])
    # One without an Init leaves an empty directory in /run, which the next plugin to start removes.
    without = "!inits/unknown-option-is*"
    cases = f"layers,inits,restart/daemon*,reference-counts/cleanup*,{without}"
    words = ["--exec", f"{command} --socket {{socket}}", "--only", cases]
    subprocess.run(
        [sys.executable, "-m", "graphdriver", "conform", *words],
        check=True,
        capture_output=True,
        env=environment_of_it,
    )
    assert os.listdir(folder) == []
    # Not by rglob: it raises where another test removes a directory meanwhile.
    found = os.walk("/run/graphdriver")
    states = [name for _, directories, files in found for name in (*directories, *files)]
    assert [name for name in states if folder.name in name] == []


def test_a_plugin_that_refuses_init_is_told_with_its_last_lines(folder: Path) -> None:
    (folder / "refuses.py").write_text(REFUSES)
    command = f"{SERVE} refuses:Driver --socket {{socket}}"
    result = graphdriver("conform", "--exec", command, path=str(folder))
    assert (result.returncode, result.stdout) == (1, b"")
    told = result.stderr.decode()
    assert told.startswith("graphdriver conform: Init: init: no room here; no case runs before")
    assert "; its last lines:\n" in told
    assert "no room here" in told.partition("its last lines:")[2]


REFUSES = """\
from graphdriver import GraphDriverError
from graphdriver.drivers.vfs.driver import VfsDriver


class Driver(VfsDriver):
    def init(self, home, options, uid_maps, gid_maps):
        raise GraphDriverError("no room here")
"""

MODULES = {
    "broken": ("class Driver(:\n    pass\n", "SyntaxError: invalid syntax"),
    "missing": ("import no_such_module\n", "No module named 'no_such_module'"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_driver_that_cannot_be_served_is_told_with_its_last_lines(
    name: str, folder: Path
) -> None:
    text, expected = MODULES[name]
    (folder / f"{name}_driver.py").write_text(text)
    result = graphdriver(
        "conform", "--exec", f"{SERVE} {name}_driver:Driver --socket {{socket}}", path=str(folder)
    )
    assert result.returncode == 11
    told = result.stderr.decode()
    assert "graphdriver conform: the plugin ended with" in told
    assert "; its last lines:\n" in told
    assert expected in told


SERVE = f"{shlex.quote(sys.executable)} -m graphdriver serve"
RAISES = """\
from graphdriver.drivers.vfs.driver import VfsDriver


class Driver(VfsDriver):
    def get(self, id, mount_label):
        return 1 // 0
"""


def test_a_driver_that_raises_is_told_with_the_line_and_what_the_plugin_wrote(
    folder: Path,
) -> None:
    (folder / "raises.py").write_text(RAISES)
    log = folder / "log"
    words = ["--exec", f"{SERVE} raises:Driver --socket {{socket}}", "--plugin-log", str(log)]
    result = graphdriver("conform", *words, "--only", NEST, path=str(folder))
    assert result.returncode == 1, result.stderr
    told = result.stdout.decode()
    assert "\n  what:     Get\n" in told
    assert "\n  log:      " in told
    assert f'File "{folder}/raises.py", line 6, in get' in told
    assert "ZeroDivisionError" in told
    assert f'File "{folder}/raises.py", line 6, in get' in log.read_text()


def test_the_plugins_log_is_only_there_where_the_kit_starts_the_plugin() -> None:
    result = conform("--socket", "/nowhere.sock", "--plugin-log", "/nowhere/log")
    assert result.returncode == 2
    assert "--plugin-log needs --exec" in result.stderr.decode()


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
            if b"tests.conformance.plugin.faulty" in words and is_below:
                found.append(process.parent.name)
    return found


def test_a_recorder_writes_until_it_is_stopped(serving: Serving, folder: Path) -> None:
    words = ["record", "--socket", serving.socket, "--output", str(folder / "t")]
    with subprocess.Popen(
        [sys.executable, "-m", "graphdriver", *words, str(folder / "r.sock")],
        env=environment(),
        stderr=subprocess.PIPE,
    ) as recorder:
        assert recorder.stderr
        ready = recorder.stderr.readline().decode()
        assert ready == (
            f"recording unix://{serving.socket} at unix://{folder}/r.sock; stop with Ctrl-C\n"
        )
        result = graphdriver("call", "--socket", str(folder / "r.sock"), "Activate")
        assert json.loads(result.stdout) == {"Implements": ["GraphDriver"]}
        recorder.terminate()
        assert recorder.wait(60) == 0
    assert not (folder / "r.sock").exists()
    (line,) = (folder / "t").read_text().splitlines()
    assert '1  Activate  ->  200 {"Implements":["GraphDriver"]}  ' in line
