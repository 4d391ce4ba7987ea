"""A plugin killed with -9 just before each call by which it changes files or mounts.

The life of some layers (`story`) is traced once, step by step. Then, for each call that was seen, it
goes as far as the step, the process is killed before the call, and a new process is started. The gate
takes the first and the last call of each name in each step. What is there must be what was there before
the step or what should be there after it, or have the mark of an ApplyDiff that did not end. Nothing
else may be left, no mount, no folder, no link; and with the layer removed all goes on from its
beginning to the end.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.drivers.erofs.layout import APPLIED
from graphdriver.errors import BrokenStreamError, RemoteError, UnreachableError
from tests.crash import strace
from tests.crash.served import Served
from tests.crash.story import HALF, STORY, Scene, Step, Tree, Trees, World, first_step_of
from tests.support import inspection
from tests.support.filesystems import loop
from tests.support.ground import require
from tests.support.long import LONG

STEPS = {"erofs": ("apply a", "apply b", "get c", "start", "put c for the last time", "remove b")}
"""The steps from which the gate takes calls, where a driver does the others as another driver does."""

FEWEST = 40
"""Fewer calls than this cannot be all."""

AT_A_TIME = 2
TRIES = 3

TRACES = 3
"""How often the story is traced; the trace with the fewest calls is what others can come up to."""


P = TypeVar("P")


class NotReachedError(Exception):
    """The process went on beyond the call at which it was to be killed, or never came to it."""


@dataclass(frozen=True)
class Point:
    """A call to be killed at: in which step, in which of the process's threads."""

    step: int
    call: strace.Call
    in_background: bool

    def kind(self) -> tuple[int, str, bool]:
        """Return what like calls have in common: those of one name in one step."""
        return self.step, self.call.name, self.in_background

    def __str__(self) -> str:
        where = " in the background" if self.in_background else ""
        return f"{STORY[self.step].name}{where}, {self.call}"


@pytest.mark.root
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("driver", ["vfs", "overlay2", "erofs", "btrfs", "fuse-overlayfs"])
def test_a_kill_at_any_call_leaves_each_layer_whole_or_absent_or_marked(driver: str) -> None:
    require(os.geteuid() == 0, "mounts and owners need root")
    with ground(driver) as folder:
        (folder / "trees").mkdir()
        trees = Trees(folder / "trees")
        with Stage(folder, driver, trees) as stage:
            stage.rehearse()
            traces = [stage.points() for _ in range(TRACES)]
        # What is busy for a moment is tried again, with calls that no other run makes.
        points = min(traces, key=lambda points: sum(point.call.nth for point in points))
        print(f"{driver}: {len(points)} calls change something", flush=True)
        assert len(points) > FEWEST
        names = STEPS.get(driver, ()) if not LONG else ()
        points = [one for one in points if not names or STORY[one.step].name in names]
        failures = play_all(folder, driver, trees, chosen(points, Point.kind))
        assert not failures, "\n\n".join(failures)


def differing(one: Tree, other: Tree) -> set[bytes]:
    """Return the paths at which two trees are not the same."""
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


@contextlib.contextmanager
def ground(driver: str) -> Iterator[Path]:
    """Give a folder with a short name, on what a driver needs."""
    with contextlib.ExitStack() as held:
        on_tmpfs = tempfile.TemporaryDirectory(prefix="gdk-", dir="/dev/shm")
        folder = Path(held.enter_context(on_tmpfs))
        if driver == "btrfs":
            folder = held.enter_context(loop("btrfs", folder))
        held.callback(unmount_below, folder)
        yield folder


def unmount_below(folder: Path) -> None:
    """Unmount what failures left, lest a folder that cannot be removed hides what they were."""
    for point in inspection.mounted(folder):
        subprocess.run(["umount", "--lazy", folder / point], check=True)


def play_all(folder: Path, driver: str, trees: Trees, points: list[Point]) -> list[str]:
    """Kill at each point; return what went wrong."""
    todo: queue.SimpleQueue[Point] = queue.SimpleQueue()
    for point in points:
        todo.put(point)
    failures: list[str] = []

    def work() -> None:
        with Stage(folder, driver, trees) as stage, contextlib.suppress(queue.Empty):
            while True:
                point = todo.get_nowait()
                try:
                    play_point(stage, point)
                except Exception as error:
                    failures.append(f"{point}\n  {type(error).__name__}: {error}")
                    stage.start_anew()

    threads = [threading.Thread(target=work) for _ in range(AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert todo.empty(), "a worker ended early"
    return sorted(failures)


def chosen(points: Sequence[P], kind: Callable[[P], object]) -> list[P]:
    """Return all points in `make test-long`, and in the gate the first and the last of each kind."""
    if LONG:
        return list(points)
    first = {kind(point): at for at, point in reversed([*enumerate(points)])}
    last = {kind(point): at for at, point in enumerate(points)}
    return [points[at] for at in sorted({*first.values(), *last.values()})]


def until_reached(play: Callable[[], None]) -> None:
    """Kill at a point, again if it was missed.

    What was changed in one tick of the clock is read to see whether it differs: now and then a call
    more or less comes before the point, and it has another number.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(NotReachedError):
            return play()
    return play()


def play_point(stage: Stage, point: Point) -> None:
    """Kill at a point until it is reached.

    A start also looks at what other plugins have below /run/graphdriver, which come and go: a point
    that is missed again and again is looked for again.
    """
    try:
        until_reached(lambda: stage.play(point))
    except NotReachedError:
        if not STORY[point.step].is_start:
            raise
        until_reached(lambda: stage.play(stage.found_again(point)))


def _without_numbers(line: str) -> str:
    """Return a traced call without what is another in each stage and home: numbers, digests, names."""
    return re.sub(r"gdk-\w+|[0-9a-f]{32,}|[A-Z0-9]{26}|\d+", "#", line)


class Stage:
    """A plugin, and homes for it, one after another."""

    def __init__(self, above: Path, driver: str, trees: Trees) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gdk-", dir=above))
        self._served = Served(self._folder, driver)
        self._trees = trees
        self._homes = 0

    def __enter__(self) -> Self:
        self._served.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._served.__exit__(*exc)

    def start_anew(self) -> None:
        """After a failure: whatever is left must not be in the next one's way."""
        self._served.kill()
        self._served.start()

    # --- what calls there are ---------------------------------------------------------------------

    def points(self) -> list[Point]:
        """Go through the story and return all calls that change something."""
        points: list[Point] = []
        scene = self._scene()
        for number, step in enumerate(STORY):
            if not step.is_start:
                points += self._points_of(number, scene)
        scene.client.cleanup()
        # By themselves: a step is killed in a process that did those before it too.
        for number, step in enumerate(STORY):
            if step.is_start:
                points += self._points_of_start(number)
        return points

    def _points_of(self, number: int, scene: Scene) -> Iterator[Point]:
        step = STORY[number]
        threads = self._threads()
        with strace.traced(self._served.pid, self._served.log) as trace:
            step.run(scene)
            self._expect_no_litter(scene)
            self._await_holds(scene)
        background = set(trace.calls) - set(threads)
        for id, calls in trace.calls.items():
            yield from (Point(number, call, id in background) for call in calls)
        # strace counts for each thread, and kills at whichever comes to a count first.
        for id in background:
            names = {call.name for call in trace.calls[id]}
            # A thread that ended before it could be traced has made no calls since.
            assert not any(names & {*trace.totals.get(other, ())} for other in threads)

    def _points_of_start(self, number: int) -> Iterator[Point]:
        scene = self._scene()
        for earlier in STORY[:number]:
            earlier.run(scene)
        trace = self._trace_start(scene)
        scene.client.cleanup()
        # What is deleted behind a start is deleted behind a Remove too.
        return (Point(number, call, False) for call in trace.calls[min(trace.calls)])

    def found_again(self, point: Point) -> Point:
        """Return the same call of a start with the number that it has now."""
        same = [
            other
            for other in self._points_of_start(point.step)
            if other.call.name == point.call.name
            and _without_numbers(other.call.line) == _without_numbers(point.call.line)
        ]
        return min(same, key=lambda other: abs(other.call.nth - point.call.nth), default=point)

    def rehearse(self) -> None:
        """Go through the story and look after each step; in a home of its own, since looking leaves
        traces too: a mount makes folders that are there to be deleted later."""
        scene = self._scene()
        for step in STORY:
            if not step.is_start:
                step.run(scene)
                self._look(scene, step, scene.world)
        scene.client.cleanup()

    def _expect_no_litter(self, scene: Scene) -> None:
        left = inspection.litter(scene.home)
        assert not left, f"left in the home: {left}"

    def _await_holds(self, scene: Scene) -> None:
        if self._served.mounts:
            inspection.await_holds(scene.home, scene.world.held)

    def _trace_start(self, scene: Scene) -> strace.Trace:
        trace = strace.Trace()
        self._plant_litter(scene)
        self._served.kill()
        with tempfile.TemporaryDirectory() as folder:
            self._served.start(*strace.start_traced(folder))
            self._expect_no_litter(scene)
            self._served.kill()
            trace.read(folder, self._served.log)
        self._served.start()
        scene.client = self._served.client
        return trace

    # --- killing ----------------------------------------------------------------------------------

    def play(self, point: Point) -> None:
        """Kill at a point, and see what is left."""
        scene = self._scene()
        step = STORY[point.step]
        for earlier in STORY[: point.step]:
            if not earlier.is_start:
                earlier.run(scene)
        before, after = scene.world, scene.world.copy()
        step.then(after, self._trees)
        answered = self._kill_at(point, step, scene)
        self._served.start()
        scene.client = self._served.client
        if step.do is STORY[0].do:
            step.do(scene)
        self._expect_no_litter(scene)
        self._look(scene, step, after, after if answered else before)
        self._go_on(scene, point.step)

    def _kill_at(self, point: Point, step: Step, scene: Scene) -> bool:
        """Do the step and be killed; tell whether it was answered before."""
        answered = False
        if step.is_start:
            self._plant_litter(scene)
            self._served.kill()
            self._served.launch(*strace.killed_at(point.call))
        else:
            threads = [self._served.pid] if point.in_background else self._threads()
            killing = strace.killing_at(point.call, threads, new_ones=point.in_background)
            with killing, contextlib.suppress(UnreachableError, BrokenStreamError):
                step.do(scene)
                answered = True
                self._expect_killed_within(10)
        self._expect_killed_within(20)
        return answered

    def _expect_killed_within(self, seconds: float) -> None:
        if not self._served.was_killed_within(seconds):
            self.start_anew()
            raise NotReachedError("this point was not reached")

    def _look(self, scene: Scene, step: Step, after: World, before: World | None = None) -> None:
        """See that each layer is as before the step or as after it, and that nothing else is there.

        Without a ``before`` nothing was killed.
        """
        holds_more = step.holds if before else 0
        if not before:
            self._await_holds(scene)
        before = before or after
        there, marked = inspection.layers(scene.home), inspection.marked(scene.home)
        assert there <= {*before.layers, *after.layers}
        holds = inspection.holds(scene.home)
        counts = inspection.counts(scene.home)
        for id in sorted({*before.layers, *after.layers}):
            allowed = [world.layers.get(id) for world in (before, after)]
            is_its = step.layer == id
            if id not in there:
                assert None in allowed, f"layer {id} is gone"
            elif id in marked:
                assert HALF in allowed or (is_its and step.applies), f"layer {id} is marked"
                with pytest.raises(RemoteError, match="transfer did not finish"):
                    scene.client.get(id, "")
            else:
                found = record(scene.client.get(id, ""))
                scene.client.put(id)
                wrong = [sorted(differing(found, tree)) for tree in allowed if tree is not None]
                assert [] in wrong, f"layer {id} is not as it should be: {wrong}"
        for point in inspection.mounted(scene.home):
            expected = [f"{id}/{name}" for id in there for name in ("merged", APPLIED)]
            assert point in expected, f"{point} is mounted"
        if self._served.mounts:
            for id in there:
                least, most = sorted(world.held.get(id, 0) for world in (before, after))
                most += holds_more if id in (step.layer, step.reads) else 0
                assert least <= holds.get(id, 0) <= most, (
                    f"layer {id} is held {holds.get(id)} times"
                )
        assert not {*counts} - there, f"counts of no layers: {counts}"
        assert inspection.holds(scene.home) == holds

    def _go_on(self, scene: Scene, number: int) -> None:
        """Remove the layer that it was about, and do all again from where it was made."""
        layer = STORY[number].layer
        again = first_step_of(number)
        if layer:
            scene.client.remove(layer)
            assert layer not in inspection.layers(scene.home)
            assert layer not in inspection.marked(scene.home)
            assert layer not in inspection.counts(scene.home)
            assert not [p for p in inspection.mounted(scene.home) if p.startswith(f"{layer}/")]
        scene.world = World()
        for earlier in STORY[:again]:
            earlier.then(scene.world, self._trees)
        for step in STORY[again:]:
            if step.is_start:
                continue
            step.run(scene)
            if step.applies:
                self._look(scene, step, scene.world)
        self._expect_no_litter(scene)
        assert not inspection.layers(scene.home)
        assert not inspection.mounted(scene.home)
        assert not inspection.counts(scene.home)
        scene.client.cleanup()  # fuse-overlayfs shows a home to its program until then

    def _threads(self) -> list[int]:
        """Return the process's threads: all idle, and the one of the connection is among them."""
        self._served.client.activate()  # connects anew after a refusal
        return self._served.threads()

    # --- the ground -------------------------------------------------------------------------------

    def _scene(self) -> Scene:
        self._homes += 1
        # Nothing may be done for the first time in this process: calls are known by their number.
        self._served.client.init(str(self._folder / "another-home"), [], [], [])
        shutil.rmtree(self._served.state, ignore_errors=True)  # as the first Init finds it
        return Scene(self._served.client, self._folder / f"home{self._homes}", self._trees)

    def _plant_litter(self, scene: Scene) -> None:
        """Leave what earlier kills may have left, so that a start has all that it can have to do."""
        home = scene.home
        for own in (".staging", ".trash"):
            (home / own / "litter/folder").mkdir(parents=True)
            (home / own / "litter/folder/file").touch()
        (home / ".graphdriver/applying/litter").touch()
        if self._served.mounts:
            (home / inspection.LINKS / ("X" * 26)).symlink_to("../litter/diff")
            (home / inspection.LINKS / ("X" * 26 + "-a")).symlink_to(f"../litter/{APPLIED}")
