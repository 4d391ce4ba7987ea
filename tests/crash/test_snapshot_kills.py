"""A snapshotter killed with -9 just before each call by which it changes files, mounts or its database.

The life of some snapshots (`STORY`) is traced once. Then, for each call that was seen, it goes as far
as the step, the process is killed before the call, and a new one is started. The gate takes the first
and the last call of each name in each step. The new process must know the snapshots that there were
before the step, or those that should be there after it; hold what was written into them; own every
layer in the root; and go on to the end, after which nothing is left.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.conformance.plugin import tars
from tests.crash import strace
from tests.crash.keeper import Keeper, KilledError
from tests.crash.test_kills import FEWEST, NotReachedError, chosen, ground, until_reached
from tests.support import inspection
from tests.support.ground import require
from tests.support.mounting import mount

State = dict[str, tuple[str, str, dict[str, str]]]
"""Of each snapshot by its key: kind, parent, labels."""


@dataclass
class Scene:
    """A root, whoever keeps it, and a folder to mount in."""

    driver: str
    root: Path
    keeper: Keeper
    place: Path


@dataclass(frozen=True)
class Step:
    """A call, and what it changes in the `State`."""

    name: str
    do: Callable[[Scene], object]
    then: Callable[[State], object] = field(default=lambda state: None)
    again: Callable[[Scene], object] | None = None
    """Makes the call again after a kill, if it takes more than the call."""


Story = tuple[Step, ...]


def _prepare(key: str, parent: str) -> Step:
    labels = {"of": key}
    return Step(
        f"prepare {key}",
        lambda scene: scene.keeper.ask("prepare", key, parent, labels),
        lambda state: state.update({key: ("ACTIVE", parent, labels)}),
    )


def _view(key: str, parent: str) -> Step:
    return Step(
        f"view {key}",
        lambda scene: scene.keeper.ask("view", key, parent, {}),
        lambda state: state.update({key: ("VIEW", parent, {})}),
    )


def _write(key: str) -> Step:
    return Step(f"write into {key}", lambda scene: _written(scene, key))


def _written(scene: Scene, key: str) -> None:
    with shown(scene, scene.keeper.ask("mounts", key)) as root:
        (root / key).write_text(f"written into {key}")


def _commit(name: str, key: str) -> Step:
    def then(state: State) -> None:
        _, parent, _ = state.pop(key)
        state[name] = ("COMMITTED", parent, {"is": name})

    def do(scene: Scene) -> None:
        scene.keeper.ask("commit", name, key, {"is": name})
        _counted(scene)  # behind the call, in a thread of its own

    return Step(f"commit {name}", do, then)


def _label(key: str) -> Step:
    def then(state: State) -> None:
        kind, parent, _ = state[key]
        state[key] = (kind, parent, {"new": "label"})

    return Step(f"label {key}", lambda s: s.keeper.ask("update", key, {"new": "label"}), then)


def _remove(key: str) -> Step:
    return Step(
        f"remove {key}",
        lambda scene: scene.keeper.ask("remove", key),
        lambda state: state.pop(key),
    )


def _counted(scene: Scene) -> None:
    deadline = time.monotonic() + 60
    while any(
        kind == "COMMITTED" and not counted for _, kind, *_, counted in scene.keeper.ask("all")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


STORY = (
    _prepare("a", ""),
    _write("a"),
    _commit("A", "a"),
    _prepare("b", "A"),
    _write("b"),
    _commit("B", "b"),
    _view("v", "B"),
    _label("B"),
    _prepare("c", "B"),
    _write("c"),
    _remove("v"),
    _remove("c"),
    Step("cleanup", lambda scene: scene.keeper.ask("cleanup")),
    _remove("B"),
    _remove("A"),
)
CONTENT = {
    "A": {"a": "a"},
    "B": {"a": "a", "b": "b"},
    "P": {"d/a": "d/a", "d/p": "d/p"},
    "Q": {"d/a": "d/a", "d/again": "d/a", "p": "p"},
}
"""The files of each committed snapshot, with the name that each was written into by."""

FIRST = tars.tar(
    tars.directory(b"d", mtime=1),
    tars.file(b"d/a", b"written into d/a", mtime=1),
    tars.file(b"d/p", b"written into d/p", mtime=1),
)
SECOND = tars.tar(
    tars.whiteout(b"d/.wh.p"),
    tars.hard_link(b"d/again", b"d/a"),
    tars.file(b"p", b"written into p", mtime=1),
)


def _fill(key: str, tar: bytes) -> Step:
    """Fill a snapshot without a parent; only the process that prepared it can, and only once."""

    def fill(scene: Scene) -> None:
        scene.keeper.ask("fill", key, base64.b64encode(tar).decode())

    def prepare_and_fill(scene: Scene) -> None:
        scene.keeper.ask("remove", key)
        scene.keeper.ask("prepare", key, "", {"of": key})
        fill(scene)

    def do(scene: Scene) -> None:
        try:
            fill(scene)
        except RuntimeError:
            prepare_and_fill(scene)

    return Step(f"fill {key}", do, again=prepare_and_fill)


def _commit_on(name: str, key: str, parent: str, tar: bytes) -> Step:
    """Give a snapshot its parent; after a kill it may be incomplete, and is made again."""

    def do(scene: Scene) -> None:
        scene.keeper.ask("commit", name, key, {"is": name}, parent)
        _counted(scene)

    def then(state: State) -> None:
        del state[key]
        state[name] = ("COMMITTED", parent, {"is": name})

    def again(scene: Scene) -> None:
        try:
            do(scene)
        except RuntimeError:
            _fill(key, tar).do(scene)
            do(scene)

    return Step(f"commit {name} on {parent}", do, then, again)


LATER = (
    _prepare("p", ""),
    _prepare("q", ""),
    _fill("q", SECOND),
    _fill("p", FIRST),
    _commit_on("P", "p", "", FIRST),
    _commit_on("Q", "q", "P", SECOND),
    _remove("Q"),
    _remove("P"),
)
"""The second one is filled before the first one, which becomes its parent."""


@dataclass(frozen=True)
class Point:
    """A call to be killed at: in which step, and in which thread, by its place among them."""

    story: Story
    step: int
    thread: int
    call: strace.Call

    def kind(self) -> tuple[int, int, str]:
        """Return what like calls have in common: those of one name in one step."""
        return self.step, self.thread, self.call.name

    def __str__(self) -> str:
        return f"{self.story[self.step].name}, thread {self.thread}, {self.call}"


@pytest.mark.root
@pytest.mark.timeout(900)
@pytest.mark.parametrize("driver", ["vfs", "overlay2", "btrfs"])
def test_a_kill_at_any_call_leaves_each_snapshot_whole_or_absent(driver: str) -> None:
    require(os.geteuid() == 0, "mounts and owners need root")
    kill_everywhere(driver, STORY)


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("driver", ["overlay2", "erofs"])
def test_so_does_a_kill_while_a_snapshot_gets_its_parent(driver: str) -> None:
    require(os.geteuid() == 0, "mounts and owners need root")
    kill_everywhere(driver, LATER)


def kill_everywhere(driver: str, story: Story) -> None:
    """Kill before each call of a story that changes something."""
    with ground(driver) as folder:
        points = traced(folder, driver, story)
        print(f"{driver}: {len(points)} calls change something", flush=True)
        assert len(points) > FEWEST
        assert {point.thread for point in points} >= {0, 1}
        failures = play_all(folder, driver, chosen(points, Point.kind))
        assert not failures, "\n\n".join(failures)


@contextlib.contextmanager
def scene_on(folder: Path, driver: str) -> Iterator[Scene]:
    """Begin with an empty root."""
    above = Path(tempfile.mkdtemp(prefix="s", dir=folder))
    (above / "place").mkdir()
    keeper = Keeper(driver, above / "root").__enter__()
    scene = Scene(driver, above / "root", keeper, above / "place")
    try:
        yield scene
    finally:
        scene.keeper.__exit__()
    shutil.rmtree(above)


@contextlib.contextmanager
def shown(scene: Scene, told: list[Any]) -> Iterator[Path]:
    """Mount what was answered for the length of a ``with`` block."""
    kind, source, options = told
    mount(kind, source, str(scene.place), ",".join(options))
    try:
        yield scene.place
    finally:
        # A process that the other thread forks has our files open until it is another program.
        subprocess.run(["umount", "--lazy", str(scene.place)], check=True)


def traced(folder: Path, driver: str, story: Story) -> list[Point]:
    """Go through the story and return all calls that change something.

    Of the threads that answer and that count; one that a driver begins to delete a layer is killed in
    `tests.crash.test_kills`.
    """
    points = []
    with scene_on(folder, driver) as scene:
        for number, step in enumerate(story):
            threads = scene.keeper.threads()
            with strace.traced(scene.keeper.pid, scene.keeper.log) as trace:
                step.do(scene)
            points += [
                Point(story, number, at, call)
                for at, id in enumerate(threads)
                for call in trace.calls.get(id, ())
            ]
    return points


def play_all(folder: Path, driver: str, points: list[Point]) -> list[str]:
    """Kill at each point, two at a time; return what went wrong."""
    todo = iter(points)
    taking = threading.Lock()
    failures: list[str] = []

    def work() -> None:
        while True:
            with taking:
                point = next(todo, None)
            if point is None:
                return
            try:
                until_reached(lambda: play(folder, driver, point))  # noqa: B023
            except Exception as error:
                failures.append(f"{point}\n  {type(error).__name__}: {error}")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(failures)


def play(folder: Path, driver: str, point: Point) -> None:
    """Kill at a point, and see what is left."""
    with scene_on(folder, driver) as scene:
        state: State = {}
        for step in point.story[: point.step]:
            step.do(scene)
            step.then(state)
        step = point.story[point.step]
        after = dict(state)
        step.then(after)
        killed_thread = scene.keeper.threads()[point.thread]
        with strace.killing_at(point.call, [killed_thread]), pytest.raises(KilledError):
            step.do(scene)
            raise NotReachedError("this point was not reached")
        scene.keeper.__exit__()
        scene.keeper = Keeper(driver, scene.root).__enter__()
        found = look(scene)
        assert found in (state, after)
        if found != after or state == after:
            (step.again or step.do)(scene)
        for later in point.story[point.step + 1 :]:
            later.do(scene)
            later.then(after)
        assert look(scene) == after == {}
        left = [name for name in os.listdir(scene.root) if name.isdecimal()]
        assert not left, f"left in the root: {left}"
        assert not inspection.mounted(scene.root)


def look(scene: Scene) -> State:
    """See that each committed snapshot holds what was written, and that each layer is owned."""
    found = scene.keeper.ask("all")
    layers = {name for name in os.listdir(scene.root) if name.isdecimal()}
    assert layers == {layer for _, _, _, layer, *_ in found if layer}
    for key, kind, *_ in found:
        if kind == "COMMITTED":
            with shown(scene, scene.keeper.ask("view", "look", key, {})) as root:
                entries = record(str(root))
                files = {os.fsdecode(name) for name, it in entries.items() if it.content}
                assert files == {*CONTENT[key]}
                for name, written in CONTENT[key].items():
                    assert (root / name).read_text() == f"written into {written}"
            scene.keeper.ask("remove", "look")
    return {key: (kind, parent, labels) for key, kind, parent, _, labels, _ in found}
