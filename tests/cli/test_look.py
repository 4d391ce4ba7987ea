"""status, layers, inspect, du and top: what they show of a plugin, and of a home."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver import Client
from graphdriver.care.engine_locks import DOCKER
from graphdriver.cli import target
from graphdriver.cli.main import main
from graphdriver.conformance.plugin import wire
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import LayerNotFoundError
from graphdriver.serving.served_home import ServedHome
from tests.support.command import Serving, environment
from tests.support.docker_root import DRIVER, DockerRoot
from tests.support.foreign import ANSWERS, foreign_plugin
from tests.support.plugin import Plugin, served
from tests.support.snapshotter import Snapshotter
from tests.support.terminal import Terminal, on_terminal
from tests.support.traces import forget
from tests.support.two_layers import TAR_A
from tests.support.waiting import wait_until

LOOKS = ("status", "layers", "du", "top", "inspect")
BASE, TOP, WEB = ("a" * 64, "b" * 64, "c" * 64)
DIFFS = [f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"]
HOSTILE = "evil\x1b]0;owned\x07\x1b[2J\u202e"


def words(look: str, *more: str, id: str = BASE) -> list[str]:
    return [look, *more, *([id] if look == "inspect" else [])]


def run(*arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it printed."""
    out, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaint):
        code = main(arguments)
    return code, out.getvalue(), complaint.getvalue()


def shown(*arguments: str, code: int = 0) -> str:
    found, out, complaint = run(*arguments)
    assert found == code, complaint
    return out


def answered(*arguments: str, code: int = 0) -> Any:
    return json.loads(shown(*arguments, "--json", code=code))


def error(*arguments: str, code: int) -> str:
    found, out, complaint = run(*arguments)
    assert found == code, (out, complaint)
    return complaint


@pytest.fixture
def root(tmp_path: Path) -> DockerRoot:
    """A daemon's directory: an image of two layers, and a container that runs on it."""
    root = DockerRoot(tmp_path)
    served = ServedHome(VfsDriver(), "docker")
    served.claim(str(root.home))
    served.init_driver()
    for id, parent in ((BASE, ""), (TOP, BASE), (f"{WEB}-init", TOP), (WEB, f"{WEB}-init")):
        served.driver.create(id, parent, "", {})
    served.close()
    root.layer(BASE, DIFFS[:1], 1000)
    root.layer(TOP, DIFFS, 234)
    root.image_of(DIFFS, "debian:12", "debian:bookworm")
    root.container("0" * 64, "web", WEB, DIFFS)
    return root


@pytest.fixture
def home(root: DockerRoot) -> str:
    return str(root.home)


@pytest.fixture(scope="module")
def used() -> Iterator[Serving]:
    """A plugin that a daemon has used: one layer of two was filled, and one call has failed."""
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/tmp") as path:
        one = Serving(Path(path), "vfs").ready()
        with Client(one.socket) as daemon:
            daemon.init(f"{path}/home")
            daemon.create(BASE)
            daemon.apply_diff(BASE, "", io.BytesIO(TAR_A))
            daemon.create(TOP, BASE)
            daemon.get(TOP)
            with pytest.raises(LayerNotFoundError):
                daemon.get("unknown")
        yield one
        one.end(signal.SIGKILL)
        forget(one.socket)


# --- a running plugin -----------------------------------------------------------------------------


def test_status_of_a_plugin(used: Serving) -> None:
    text = shown("status", "--socket", used.socket)
    assert "serving" in text.splitlines()[0]
    assert "vfs for docker" in text
    assert "1 not found" in text
    told = answered("status", "--socket", used.socket)
    assert (told["driver"], told["engine"], told["layers"]) == ("vfs", "docker", 2)
    assert (told["pid"], told["serving"], told["ready"]) == (used.process.pid, True, True)
    assert told["calls"]["Get"] | {"p50_ms": 0, "p99_ms": 0} == {
        "count": 2,
        "errors": {"not found": 1},
        "in_flight": 0,
        "p50_ms": 0,
        "p99_ms": 0,
    }
    assert told["bytes_in"] == len(TAR_A)
    assert told["started"].endswith("Z")


def test_status_takes_the_plugins_name(used: Serving) -> None:
    assert "not found" in error("status", "no-such-plugin", code=11)


def test_status_before_any_init() -> None:
    with served() as plugin:
        assert "not ready: no home is served; a daemon sends Init" in shown(
            "status", "--socket", plugin.path
        )


def test_layers_of_a_plugin(used: Serving) -> None:
    told = answered("layers", "--socket", used.socket)
    layers = {one["id"]: one for one in told["layers"]}
    assert layers[BASE]["children"] == [TOP]
    assert layers[BASE]["own_size"] == layers[TOP]["shared_size"] > 0
    assert layers[TOP]["gets"] == 1
    assert layers[TOP]["got_by"].endswith(f"({os.getpid()})")
    text = shown("layers", "--socket", used.socket)
    assert [line.split()[0] for line in text.splitlines()[1:3]] == [BASE[:12], TOP[:12]]


def test_inspect_of_a_plugin(used: Serving) -> None:
    told = answered("inspect", "--socket", used.socket, TOP)
    assert (told["parent"], told["chain"]) == (BASE, [TOP, BASE])
    assert told["references"] == 1
    assert BASE in shown("inspect", "--socket", used.socket, BASE[:5])


def test_inspect_takes_ids_as_layers_shows_them(home: str) -> None:
    for shown_id, id in ((WEB[:12], WEB), (f"{WEB[:12]}-init", f"{WEB}-init")):
        assert shown_id in shown("layers", "--home", home)
        assert answered("inspect", "--home", home, shown_id)["id"] == id
    assert answered("inspect", "--home", home, f"{WEB}-")["id"] == f"{WEB}-init"


def test_a_snapshotter_is_looked_at_through_its_socket(folder: Path) -> None:
    with Snapshotter(folder, "vfs") as one:
        one.calls.prepare("key", "")
        assert "vfs for containerd" in shown("status", "--socket", one.address)
        (layer,) = answered("layers", "--socket", one.address)["layers"]
        assert [owner["name"] for owner in layer["owners"]] == ["key"]
        assert answered("top", "--socket", one.address)["running"] == []
        assert "key" in shown("inspect", "--socket", one.address, "key")


@pytest.mark.parametrize("driver", ["vfs", "erofs"])
def test_a_walk_counts_what_the_snapshotter_has_counted(driver: str, folder: Path) -> None:
    with Snapshotter(folder, driver) as one:
        one.calls.prepare("key", "")
        one.calls.commit("image", "key")

        def counted() -> Any:
            (layer,) = answered("du", "--socket", one.address, "--verify")["layers"]
            return layer

        wait_until(lambda: counted()["counted_inodes"])
        layer = counted()
        assert (layer["counted"], layer["counted_inodes"]) == (layer["on_disk"], layer["inodes"])
        assert not layer["differs"]


def test_a_home_that_is_served_is_asked_for_at_its_process(used: Serving) -> None:
    home = answered("status", "--socket", used.socket)["home"]
    told = answered("status", "--home", home)
    assert (told["pid"], told["address"]) == (used.process.pid, used.socket)
    layers = {one["id"]: one for one in answered("layers", "--home", home)["layers"]}
    assert (layers[TOP]["gets"], layers[TOP]["path"]) == (1, f"{home}/{TOP}/root")


def test_a_home_whose_process_does_not_answer_is_read(
    used: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = answered("status", "--socket", used.socket)["home"]
    monkeypatch.setattr(target, "PATIENCE", 0.2)
    used.process.send_signal(signal.SIGSTOP)
    try:
        code, out, complaint = run("status", "--home", home)
        assert code == 11
        assert "DOES NOT ANSWER" in out.splitlines()[0]
        assert f"process {used.process.pid}" in complaint
        assert {one["id"] for one in answered("layers", "--home", home)["layers"]} == {BASE, TOP}
    finally:
        used.process.send_signal(signal.SIGCONT)


# --- top ------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[Plugin]:
    """A plugin with a transfer that goes on, and a call that waits for it."""
    with served() as plugin, plugin.wire() as one, plugin.wire() as other:
        one.ask(wire.call("Init", Home=plugin.home))
        one.ask(wire.call("Create", ID="a"))
        one.send(wire.apply_head("a"), *wire.chunks(b"x" * 5000))
        with plugin.client() as asked:
            wait_until(lambda: [call["bytes"] for call in calls_of(asked)] == [5000])
            other.send(wire.call("Remove", ID="a"))
            wait_until(lambda: any(call["waits_for"] for call in calls_of(asked)))
        yield plugin


def calls_of(client: Client) -> Any:
    return client.ask("calls")


def test_top_prints_one_picture_where_no_terminal_is(busy: Plugin) -> None:
    lines = shown("top", "--socket", busy.path).splitlines()
    apply, remove = (
        next(line for line in lines if name in line) for name in ("ApplyDiff", "Remove")
    )
    assert "5kB" in apply
    assert "ApplyDiff a" in remove, "it tells what it waits for"
    running = answered("top", "--socket", busy.path)["running"]
    assert [(one["call"], one["waits_for"]) for one in running] == [
        ("ApplyDiff", None),
        ("Remove", "a"),
    ]


def test_status_shows_a_call_that_waits_first(busy: Plugin) -> None:
    line = shown("status", "--socket", busy.path).splitlines()[1]
    assert line.startswith("! Remove a")
    assert "held by ApplyDiff a" in line


def test_top_is_refreshed_in_place_until_ctrl_c(busy: Plugin) -> None:
    with Terminal("top", "--socket", busy.path) as terminal:
        terminal.read_until(lambda raw: raw.count(b"\x1b[H") >= 2)
        terminal.interrupt()
        assert terminal.ended() == 0
    assert terminal.raw.startswith(b"\x1b[?1049h"), "on a screen of its own"
    assert terminal.raw.endswith(b"\x1b[?1049l"), "the usual screen is back"
    assert b"Traceback" not in terminal.raw
    assert b"ended per second" in terminal.raw, "rates since the picture before"


def test_top_goes_on_while_the_plugin_is_restarted() -> None:
    with served() as plugin, Terminal("top", "--socket", plugin.path) as terminal:
        terminal.read_until(lambda raw: b"serving" in raw)
        plugin.stop()
        terminal.read_until(lambda raw: b"does not answer" in raw)
        terminal.process.terminate()
        assert terminal.ended() == 128 + signal.SIGTERM
        plugin.start()
    assert terminal.raw.endswith(b"\x1b[?1049l")


# --- a home that no process serves ------------------------------------------------------------------


def test_status_of_a_home(home: str) -> None:
    text = shown("status", "--home", home)
    assert "no process serves it" in text.splitlines()[0]
    assert "vfs for docker" in text
    told = answered("status", "--home", home)
    assert (told["serving"], told["layers"], told["home"]) == (False, 4, home)


def test_names_stand_at_the_topmost_layers(home: str) -> None:
    rows = {
        line.split()[0].lstrip("├└─│ "): line
        for line in shown("layers", "--home", home).splitlines()
    }
    assert "1 image, 1 container" in rows[BASE[:12]]
    assert "debian:12" in rows[TOP[:12]]
    assert "container web" in rows[WEB[:12]]
    assert "1 container" in rows[f"{WEB[:12]}-init"]


def test_inspect_finds_a_layer_by_the_name_of_its_image_or_container(home: str) -> None:
    for name in ("debian:12", "debian:bookworm"):
        assert answered("inspect", "--home", home, name)["id"] == TOP
    assert answered("inspect", "--home", home, "web")["id"] == WEB
    assert "nothing" in error("inspect", "--home", home, "nothing", code=3)
    (Path(home) / ("cd" * 32) / "root").mkdir(parents=True)
    assert "2 IDs" in error("inspect", "--home", home, "c", code=2)


def test_du_compares_what_was_counted_with_a_walk(home: str) -> None:
    (Path(home) / TOP / "root/file").write_bytes(b"x" * 100_000)
    layers = {one["id"]: one for one in answered("du", "--home", home, "--verify")["layers"]}
    assert layers[TOP]["counted"] == 234
    assert layers[TOP]["on_disk"] >= 100_000
    assert layers[TOP]["inodes"] == 2
    first = shown("du", "--home", home, "--verify").splitlines()[1]
    assert first.startswith(TOP[:12]), "the largest comes first"


def test_a_damaged_home_is_shown_with_what_is_damaged(root: DockerRoot, home: str) -> None:
    os.rmdir(root.home / TOP / "root")
    for look in ("status", "layers", "du"):
        text = shown(look, "--home", home, code=14)
        assert f"graphdriver fsck {home}" in text
        assert BASE[:12] in text or look == "status"
    assert "damaged" in shown("inspect", "--home", home, TOP, code=14)
    assert shown("inspect", "--home", home, BASE)


def test_a_damaged_record_of_the_home_is_told(root: DockerRoot, home: str) -> None:
    (root.home / ".graphdriver/home.json").write_text("\x1b[2J")
    for look in ("status", "layers", "du"):
        assert "home.json is damaged" in shown(look, "--home", home, code=14)


def test_many_damages_leave_room_for_the_rest(root: DockerRoot, home: str) -> None:
    for n in range(50):
        (root.layer(f"lost{n}", [f"sha256:{n:064}"]) / "diff").write_text("damaged")
    for id in (BASE, TOP, WEB):
        os.rmdir(root.home / id / "root")
    lines, code = on_terminal("status", "--home", home, columns=200)
    assert code == 14
    assert len(lines) < 24
    assert any("more like these: --json shows all" in line for line in lines)
    assert len(answered("status", "--home", home, code=14)["notes"]) >= 50


def test_a_directory_that_is_no_home(tmp_path: Path) -> None:
    assert "no record" in shown("layers", "--home", str(tmp_path))
    assert "not a directory" in error("layers", "--home", f"{tmp_path}/none", code=2)


# --- what does not answer -------------------------------------------------------------------------


def test_a_plugin_that_does_not_answer(folder: Path) -> None:
    path = str(folder / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    for look in LOOKS:
        assert "does not answer" in error(*words(look, "--socket", path), code=11)


def test_a_plugin_of_another_author_tells_its_status_by_protocol(folder: Path) -> None:
    with foreign_plugin(folder / "f.sock") as path:
        text = shown("status", "--socket", path)
        assert "answers no questions" in text
        assert "tape\\x1b[2J" in text
        assert answered("status", "--socket", path)["driver_status"][1] == ["Reels", "7"]
        assert answered("inspect", "--socket", path, "a")["metadata"] == {"Reel": "3"}
        for look in ("layers", "du", "top"):
            text = error(look, "--socket", path, code=7)
            assert f"graphdriver status --socket {path}" in text


def test_an_answer_that_is_none_is_that_of_another_author(folder: Path) -> None:
    class Everything(dict[str, object]):
        def get(self, name: str, default: object = None) -> object:
            return ANSWERS.get(name, {"Err": ""})

    with foreign_plugin(folder / "f.sock", Everything()) as path:
        assert "answers no questions" in shown("status", "--socket", path)


def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "Traceback" not in error("status", "--socket", str(file), code=11)


# --- what a terminal gets ---------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 200])
def test_every_line_fits_the_terminal(root: DockerRoot, home: str, columns: int) -> None:
    root.image_of(DIFFS, *(f"registry.example/{'long/' * 20}image:{n}" for n in range(5)))
    for look in ("status", "layers", "du"):
        lines, _ = on_terminal(look, "--home", home, columns=columns)
        assert max(map(len, lines)) <= columns, look
        assert look != "status" or len(lines) < 24


def test_inspect_leaves_paths_whole(home: str) -> None:
    lines, _ = on_terminal("inspect", "--home", home, TOP, columns=80)
    assert any(f"{home}/{TOP}/root" in line for line in lines), "\n".join(lines)


def test_status_is_one_screen(used: Serving) -> None:
    for lines in (16, 24):
        text, _ = on_terminal("status", "--socket", used.socket, lines=lines)
        assert len(text) < lines


def test_without_a_terminal_nothing_is_cut(root: DockerRoot, home: str) -> None:
    name = f"registry.example/{'long/' * 20}image:1"
    root.image_of(DIFFS, name)
    assert name in shown("layers", "--home", home)


@pytest.mark.parametrize("look", ["status", "layers", "du", "inspect"])
def test_hostile_names_never_reach_the_terminal(root: DockerRoot, home: str, look: str) -> None:
    root.image_of(DIFFS, f"{HOSTILE}:1")
    root.container("9" * 64, HOSTILE, f"{'d' * 64}", DIFFS)
    (root.home / HOSTILE.replace("/", "")).mkdir()
    with Terminal(*words(look, "--home", home, id=TOP), columns=200) as terminal:
        terminal.ended()
    assert b"\x1b]0" not in terminal.raw
    assert b"\x07" not in terminal.raw
    assert b"\x1b[2J" not in terminal.raw
    assert "\u202e".encode() not in terminal.raw
    assert b"evil\\x1b]0;owned" in terminal.raw or look == "status"


def test_an_id_in_an_error_never_reaches_the_terminal(home: str) -> None:
    text = error("inspect", "--home", home, HOSTILE, code=3)
    assert "\x1b" not in text


def test_the_same_without_rich(home: str, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none/rich.py").write_text("raise ImportError('not installed')")
    with_rich, _ = on_terminal("layers", "--home", home)
    without, code = on_terminal("layers", "--home", home, path=str(tmp_path / "none"))
    assert (without, code) == (with_rich, 0)


def test_a_terminal_without_utf_8_gets_ascii(home: str) -> None:
    with Terminal("layers", "--home", home, PYTHONIOENCODING="ascii") as terminal:
        assert terminal.ended() == 0
    assert terminal.raw.isascii()


def test_no_colours_where_the_user_wants_none(home: str) -> None:
    with Terminal("layers", "--home", home, NO_COLOR="1") as terminal:
        terminal.ended()
    assert b"\x1b[3" not in terminal.raw


def test_a_pipe_gets_no_control_characters(home: str) -> None:
    assert "\x1b" not in shown("layers", "--home", home)


def test_a_reader_that_closes_the_pipe_is_no_error(home: str) -> None:
    command = f"{sys.executable} -m graphdriver layers --home {home} | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment(), timeout=60)
    assert not done.stderr


def test_a_plugin_that_has_stopped_is_looked_at_through_its_home(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "DATA_ROOT", os.path.dirname(home))
    code, out, complaint = run("status", DRIVER)
    assert code == 11
    assert "DOES NOT ANSWER" in out
    assert home in out
    assert "not found" in complaint
    assert answered("layers", "--plugin", DRIVER)["home"] == home


def test_without_a_name_the_only_home_is_looked_at(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "DATA_ROOT", os.path.dirname(home))
    monkeypatch.setattr(target, "CONTAINERD_ROOT", "/nowhere")
    monkeypatch.setattr(target, "_plugins", lambda: iter(()))
    assert answered("layers")["home"] == home
    shutil.copytree(home, tmp_path / "z-other")
    assert f"--home {home}, --home {tmp_path / 'z-other'}" in error("layers", code=2)
    monkeypatch.setattr(target, "DATA_ROOT", "/nowhere")
    assert "no plugin and no home" in error("layers", code=2)
    monkeypatch.setattr(target, "_plugins", lambda: iter(("py-one", "py-two")))
    assert "--plugin py-one, --plugin py-two" in error("layers", code=2)


@pytest.mark.parametrize("command", ["fsck", "gc"])
def test_without_a_home_the_only_one_is_checked(
    command: str, root: DockerRoot, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root.path / DOCKER[0]).parent.mkdir()  # gc locks it, so that no daemon starts
    (root.path / DOCKER[0]).touch()
    monkeypatch.setattr(target, "DATA_ROOT", os.path.dirname(home))
    monkeypatch.setattr(target, "CONTAINERD_ROOT", "/nowhere")
    monkeypatch.setattr(target, "_plugins", lambda: iter(("py-one", "py-two")))
    assert answered(command)["home"] == home
    other = shutil.copytree(home, tmp_path / "z-other")
    assert f"there are 2 homes; choose one: {home}, {other}" in error(command, code=2)
    monkeypatch.setattr(target, "_plugins", lambda: iter((os.path.basename(home),)))
    assert answered(command)["home"] == home
    monkeypatch.setattr(target, "DATA_ROOT", "/nowhere")
    assert "no plugin and no home" in error(command, code=2)


def test_a_snapshotters_database_that_is_damaged_is_told_once(folder: Path) -> None:
    with Snapshotter(folder, "vfs") as one:
        one.calls.prepare("key", "")
    (one.root / ".graphdriver/snapshots.db").write_bytes(b"not a database" * 100)
    for look in ("status", "layers", "du"):
        text = shown(look, "--home", str(one.root), code=14)
        assert text.count("snapshots.db cannot be read") == 1
    assert "1 layer" in text, "its layers are shown all the same"


def test_a_driver_of_somebody_elses_is_shown_by_what_the_plugin_knows() -> None:
    with served() as plugin, plugin.client() as client:
        client.init(plugin.home, [], [], [])
        client.create("a")
        client.create("b", "a")
        text = shown("layers", "--socket", plugin.path)
        assert "shown is only what the plugin and the engine know" in text
        rows = [line.split()[0] for line in text.splitlines() if not line.startswith("!")]
        assert rows == ["LAYER", "a", "b", "2"]
        assert "the files of the layers are not known" in error(
            "du", "--socket", plugin.path, "--verify", code=7
        )
