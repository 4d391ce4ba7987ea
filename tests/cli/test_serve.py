"""``graphdriver serve``."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Serving, graphdriver
from tests.support.signals import signal_another_thread
from tests.support.traces import state_of_socket
from tests.support.waiting import wait_until

SCRIPT = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from graphdriver.cli.main import main; sys.exit(main())",
]
"""The installed command, which unlike ``python -m`` does not have the current folder on its path."""

BUILT_IN = ["vfs", "overlay2", "btrfs", "fuse-overlayfs", "overlay", "aufs", "zfs", "devicemapper"]


def test_the_choice_its_reason_and_the_daemons_lines_are_printed(folder: Path) -> None:
    name = f"py-test-{os.getpid()}"
    one = Serving(folder, "--name", name, "--data-root", str(folder)).ready()
    try:
        said = one.out.read_text()
        assert said.startswith("serving overlay2 (unchanged files are shared, on ")
        assert f") on /run/docker/plugins/{name}.sock\n" in said
        line = f"dockerd --experimental --data-root {folder} -s {name}\n"
        assert f"  {line}" in said
        assert f"  DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS=1 {line}" in said
    finally:
        assert one.end() == 0
    assert not os.path.exists(f"/run/docker/plugins/{name}.sock")


def test_a_socket_elsewhere_comes_with_the_spec_file_that_a_daemon_needs(serving: Serving) -> None:
    name = Path(serving.socket).stem
    spec = Path(f"/etc/docker/plugins/{name}.spec")
    assert spec.read_text() == f"unix://{serving.socket}"
    assert graphdriver("call", "--plugin", name, "Activate").returncode == 0
    assert serving.end() == 0
    assert not spec.exists()


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_names_of_dockers_own_drivers_are_refused(name: str) -> None:
    result = graphdriver("serve", "vfs", "--name", name)
    assert result.returncode == 2
    assert b"a daemon would use that one and never call this plugin" in result.stderr


def test_a_socket_called_like_dockers_own_driver_is_refused(folder: Path) -> None:
    result = graphdriver("serve", "vfs", "--socket", f"{folder}/overlay2.sock")
    assert result.returncode == 2
    assert b"choose another name, such as py-overlay2" in result.stderr
    assert not (folder / "overlay2.sock").exists()


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "two words", ""])
def test_a_name_that_no_daemon_could_ask_for_is_refused(name: str) -> None:
    result = graphdriver("serve", "vfs", f"--name={name}")
    assert result.returncode == 2
    assert b"cannot be a plugin's name" in result.stderr


def test_a_live_socket_is_refused_and_goes_on_serving(serving: Serving) -> None:
    result = graphdriver("serve", "vfs", "--socket", serving.socket)
    assert result.returncode == 5
    assert b"another process listens" in result.stderr
    assert serving.call("Activate").stdout == b'{"Implements": ["GraphDriver"]}\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_removes_the_socket(serving: Serving, number: int) -> None:
    assert serving.end(number) == 0
    assert not os.path.exists(serving.socket)


def test_a_stop_that_another_thread_takes_is_a_stop(serving: Serving) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(serving.socket)
        connection.sendall(
            b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )
        assert connection.recv(1)  # so there is a thread for it, and the main one waits
        signal_another_thread(serving.process.pid, signal.SIGTERM)
        assert serving.process.wait(60) == 0


def test_after_a_kill_it_starts_again_and_knows_the_home(serving: Serving, folder: Path) -> None:
    home = folder / "home"
    assert serving.call("Init", f"Home={home}").returncode == 0
    assert serving.call("Create", "ID=a").returncode == 0
    serving.end(signal.SIGKILL)
    assert os.path.exists(serving.socket)
    again = Serving(folder, "vfs").ready()
    try:
        assert json.loads(again.call("Get", "ID=a").stdout) == {"Dir": f"{home}/a/root"}
    finally:
        again.end()


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(folder / f"{folder.name}.sock"))
    one = Serving(folder, "vfs").ready()
    assert one.accepts()
    assert one.end() == 0


def test_a_path_that_is_too_long_is_a_clear_error(folder: Path) -> None:
    result = graphdriver("serve", "vfs", "--socket", f"{folder}/{'x' * 120}")
    assert result.returncode == 7
    assert b"room for 107" in result.stderr


def test_an_unknown_driver_is_told_which_there_are() -> None:
    result = graphdriver("serve", "nope", "--socket", f"/tmp/gd-nope-{os.getpid()}.sock")
    assert result.returncode == 7
    assert b"driver 'nope' does not exist; use one of" in result.stderr
    assert b"vfs" in result.stderr


def test_anybodys_class_is_served_as_module_and_class(folder: Path) -> None:
    one = Serving(folder, "plain_folders:PlainFolders").ready()
    try:
        assert one.call("Init", f"Home={folder}/home").returncode == 0
        assert one.call("Create", "ID=a").returncode == 0
        assert os.path.isdir(f"{folder}/home/a")
    finally:
        one.end()


def test_ones_own_class_is_found_in_the_current_folder(folder: Path) -> None:
    (folder / "own_storage.py").write_text(
        "from plain_folders import PlainFolders\nclass Own(PlainFolders): pass\n"
    )
    (folder / "json.py").write_text("raise SystemExit('taken for the standard library')\n")
    one = Serving(folder, "own_storage:Own", program=SCRIPT, cwd=folder).ready()
    assert one.end() == 0


def test_a_bad_option_is_wrong_usage() -> None:
    result = graphdriver("serve", "vfs", "--opt", "no-equals-sign")
    assert result.returncode == 2
    assert b"KEY=VALUE" in result.stderr


def test_the_drivers_own_options_reach_init(folder: Path) -> None:
    one = Serving(folder, "plain_folders:PlainFolders", "--opt", "adopt=yes").ready()
    try:
        (folder / "home").mkdir()
        (folder / "home/theirs").touch()
        assert one.call("Init", f"Home={folder}/home").returncode == 0
    finally:
        one.end()


@pytest.fixture
def importing(folder: Path) -> Iterator[Serving]:
    """A plugin whose driver is imported until the file ``imported`` is there, in the middle of that."""
    (folder / "slow.py").write_text(
        "import os, time\n"
        "from plain_folders import PlainFolders\n"
        f"open({str(folder / 'importing')!r}, 'w').close()\n"
        f"while not os.path.exists({str(folder / 'imported')!r}): time.sleep(0.01)\n"
        "class Slow(PlainFolders): pass\n"
    )
    one = Serving(folder, "slow:Slow", path=str(folder))
    wait_until(lambda: (folder / "importing").exists() or one.process.poll() is not None)
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)


def test_the_socket_is_there_before_the_driver_is_imported(
    importing: Serving, folder: Path
) -> None:
    assert importing.accepts()
    assert importing.out.read_bytes() == b""
    (folder / "imported").touch()
    importing.ready()


def test_a_stop_before_it_serves_removes_the_socket_too(importing: Serving) -> None:
    assert importing.end() == 0
    assert not os.path.exists(importing.socket)
    assert importing.out.read_bytes() == b""


def test_each_call_is_a_line_of_json_with_call_layer_and_duration(
    serving: Serving, folder: Path
) -> None:
    serving.call("Init", f"Home={folder}/home")
    serving.call("Create", "ID=a")
    serving.call("Create", "ID=b", "Parent=a")
    serving.call("Get", "ID=missing")
    serving.end()
    assert serving.out.read_bytes() == b""  # all that is written is the log
    calls = [line for line in serving.lines if "call" in line]
    assert [(one["call"], one.get("layer"), one.get("parent"), one["status"]) for one in calls] == [
        ("Init", None, None, 200),
        ("Create", "a", None, 200),
        ("Create", "b", "a", 200),
        ("Get", "missing", None, 500),
    ]
    assert all(float(str(one["ms"])) >= 0 and str(one["time"]).endswith("Z") for one in calls)
    assert calls[-1]["level"] == "warning"
    assert calls[-1]["message"] == "get missing: the layer does not exist"


def test_who_is_not_root_is_told_what_root_is_needed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphdriver.cli.main import main

    said: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("builtins.print", lambda text, **_: said.append(text))
    assert main(["serve", "vfs"]) == 7
    assert "only root can make; run it as root" in said[0]


def test_what_is_ours_can_be_written_by_root_alone(serving: Serving, folder: Path) -> None:
    home = folder / "new" / "org" / "home"
    assert serving.call("Init", f"Home={home}").returncode == 0
    assert serving.call("Create", "ID=a").returncode == 0
    state = state_of_socket(serving.socket)
    assert (state / "init.json").exists()
    ours = [folder / "new", *(folder / "new").rglob("*"), state.parent, state, *state.iterdir()]
    for path in (path for path in ours if not path.is_symlink()):  # a link's mode says nothing
        assert path.stat().st_mode & 0o022 == 0, path


def test_as_text_too_each_call_has_its_layer_and_duration(folder: Path) -> None:
    one = Serving(folder, "vfs", "-v").ready()
    try:
        one.call("Init", f"Home={folder}/home")
        one.call("Create", "ID=a")
        one.call("Get", "ID=missing")
    finally:
        one.end()
    lines = one.log.read_text().splitlines()
    for said in (
        r"DEBUG   Create call=Create layer=a ms=\d+\.\d+ status=200",
        r"WARNING get missing: the layer does not exist call=Get layer=missing ms=\S+ status=500",
    ):
        assert any(re.fullmatch(rf"\S+Z {said}", line) for line in lines), lines


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nope"], 7, "driver 'nope' does not exist"),
        (
            ["examples/mine.py"],
            7,
            "is a path, not a module; change to the file's directory and name mine:Class",
        ),
        (["./mine.py:Mine"], 7, "change to the file's directory and name mine:Mine"),
        (["mine.py"], 7, "change to the file's directory and name mine:Class"),
        (["vfs", "--group", "no-such-group"], 7, "there is no group no-such-group"),
        (["vfs", "--name", "overlay2"], 2, "choose another name, such as py-overlay2"),
        (["failing:Failing"], 7, "this driver has a bug"),
    ],
)
def test_where_machines_read_the_log_what_ends_the_plugin_is_a_line_too(
    folder: Path, words: list[str], code: int, said: str
) -> None:
    (folder / "failing.py").write_text(
        "from plain_folders import PlainFolders\n"
        "class Failing(PlainFolders):\n"
        "    def __init__(self): raise ValueError('this driver has a bug')\n"
    )
    place = ["--socket", f"{folder}/{folder.name}.sock"]
    result = graphdriver("serve", *words, *place, "--log-format=json", path=str(folder))
    assert result.returncode == code
    (line,) = map(json.loads, result.stderr.splitlines())
    assert line["level"] == "critical"
    assert said in line["message"]
    assert "trace" not in line
    assert result.stdout == b""
    assert not (folder / f"{folder.name}.sock").exists()


def test_so_is_what_ends_a_snapshotter(folder: Path) -> None:
    place = ["--address", str(folder / "s.sock"), "--root", str(folder / "root")]
    result = graphdriver("snapshotter", "no-such-driver", *place, "--log-format=json")
    assert result.returncode == 7
    (line,) = map(json.loads, result.stderr.splitlines())
    assert (line["level"], "no-such-driver" in line["message"]) == ("critical", True)
    assert result.stdout == b""
