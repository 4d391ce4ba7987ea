"""One engine, the process under test that keeps its layers, and what both should hold.

What an engine does is an `Action`: it is chosen by a random generator from what the engine should
hold, so the same seed gives the same actions, however they end. For that, what was changed while
something was disturbed is checked and then forgotten: `Side.settle` removes it, whether or not it was
done.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.engines.content import Tree, base, difference, some_change
from tests.soak.engines.disk import Disk
from tests.soak.engines.errors import RefusedError, UserErrors
from tests.support import leftovers
from tests.support.small_image import static_busybox
from tests.support.waiting import wait_until

MOST_IMAGES, MOST_CONTAINERS = 8, 5

OVERLAYS = ("overlay2", "erofs", "fuse-overlayfs")
"""Drivers that mount each layer that is in use."""


@dataclass
class Image:
    """An image that the engine should have."""

    tree: Tree
    identity: object
    """What the engine says of it that never changes, such as its digests."""


@dataclass
class Container:
    """A container that the engine should have."""

    image: str
    tree: Tree
    runs: bool = True


@dataclass
class Action:
    """Something that a user does.

    Attributes:
        kind: what it is called in the figures.
        reads: the images and containers that it needs as they are.
        changes: those that it makes, changes or removes.
        run: does it; raises `RefusedError` if the engine's client reports an error.
        done: notes what is true after it.
        alone: no other action runs at the same time.
    """

    kind: str
    changes: frozenset[str]
    run: Callable[[], None]
    done: Callable[[], None]
    reads: frozenset[str] = frozenset()
    alone: bool = False


@dataclass
class Figures:
    """What was done in all."""

    rounds: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    """How the process under test has ended by itself, while something was disturbed."""
    bytes: int = 0
    """Of the content that was made."""
    garbage: int = 0
    """Layers that the engine has forgotten, and `graphdriver gc` has removed."""
    most_memory: int = 0
    most_descriptors: int = 0


class Side(ABC):
    """One engine and the process under test.

    Attributes:
        images: what the engine should have, by name.
        containers: likewise.
    """

    engine: str
    home: Path

    def __init__(self, driver: str, disk: Disk, folder: Path, chance: random.Random) -> None:
        self.driver = driver
        self.disk = disk
        self.folder = folder
        self.chance = chance
        self.figures = Figures()
        self.errors = UserErrors()
        self.memory_at_first: dict[int, int] = {}
        """Bytes that each process under test used when it was checked first, by its ID."""
        self.images: dict[str, Image] = {}
        self.containers: dict[str, Container] = {}
        self.base = base(static_busybox())
        self.journal: list[str] = []
        """What was done, a line for each action."""
        self._numbers = itertools.count(1)
        self._doubtful: dict[str, None] = {}
        self._pinned: set[str] = set()
        """What doubtful images and containers stand on."""
        self._late: list[Action] = []
        """What succeeded while something was disturbed."""
        self._all_stopped = False

    # --- what an engine does its own way ---

    @abstractmethod
    def choices(self) -> dict[Callable[[], Action | None], int]:
        """Return what makes an action, and how likely each is."""

    @abstractmethod
    def forget(self, name: str) -> None:
        """Remove an image or a container from the engine, if it is there."""

    @abstractmethod
    def content_of_image(self, name: str) -> Tree:
        """Return what an image holds."""

    @abstractmethod
    def content_of_container(self, name: str) -> Tree:
        """Return what a container holds."""

    @abstractmethod
    def identity(self, image: str) -> object:
        """Return what never changes of an image."""

    @abstractmethod
    def found(self) -> tuple[set[str], dict[str, bool]]:
        """Return the names of the engine's images, and of its containers whether each runs."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The ID of the process under test."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """Return how the process under test has ended, if it has."""

    @abstractmethod
    def start(self) -> None:
        """Start the process under test."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it as a service manager does."""

    @abstractmethod
    def kill(self) -> None:
        """Kill it with -9."""

    @abstractmethod
    def start_engine(self) -> None:
        """Start the engine, and wait until it and the process under test know each other."""

    @abstractmethod
    def stop_engine(self) -> None:
        """Stop the engine in good order."""

    @abstractmethod
    def kill_engine(self) -> None:
        """Kill the engine with -9."""

    @abstractmethod
    def await_server(self) -> None:
        """Wait until the engine reaches the process under test again, after that was started."""

    @abstractmethod
    def mount_again(self) -> None:
        """Stop all that uses the disk, mount it again, and start all."""

    @abstractmethod
    def collect_garbage(self) -> None:
        """Let the engine remove layers, so that removals that have failed are tried again."""

    @abstractmethod
    def remove_all(self) -> None:
        """Remove what the engine keeps of images and containers that are gone."""

    @abstractmethod
    def check_layers(self) -> None:
        """Check that the layers on disk, and their mounts, are those that the engine needs."""

    @abstractmethod
    def check_saved(self, image: str) -> None:
        """Check every byte of an image by its digests."""

    @abstractmethod
    def close(self) -> None:
        """Stop both, and unmount what was mounted for them."""

    @property
    @abstractmethod
    def log(self) -> Path:
        """The log of the process under test, in lines of JSON."""

    @abstractmethod
    def execute(self, container: str, script: str) -> None:
        """Run a script in a container."""

    # --- what every engine does alike ---

    def some_container(self, runs: bool | None = None) -> str | None:
        """Return a container of which the state is known; with ``runs`` one that runs, or not."""
        names = [
            name
            for name in self.certain(self.containers)
            if runs is None or self.containers[name].runs == runs
        ]
        return self.chance.choice(names) if names else None

    def new_layers(self, most: int) -> tuple[list[bytes], Tree]:
        """Return the layers of a new image, the base and 1 to ``most`` others, and what they show."""
        layers, tree = [self.base], Tree()
        for _ in range(self.chance.randrange(1, most + 1)):
            change = some_change(self.chance, tree)
            layers.append(change.tar(tree))
            tree = change.of(tree)
        return layers, tree

    def change_in_a_container(self) -> Action | None:
        """Return an action that changes files of a running container."""
        name = self.some_container(runs=True)
        if not name:
            return None
        container = self.containers[name]
        change = some_change(self.chance, container.tree)
        script = change.script(container.tree)

        def run() -> None:
            self.execute(name, script)

        def done() -> None:
            container.tree = change.of(container.tree)

        return Action("change in a container", frozenset({name}), run, done)

    # --- doing it ---

    def new_name(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"

    def certain(self, of: dict[str, Container] | dict[str, Image]) -> list[str]:
        """Return the names of which the state is known."""
        return [name for name in of if name not in self._doubtful]

    def choose(self, count: int) -> list[Action]:
        """Choose actions that can run at the same time."""
        chosen: list[Action] = []
        for _ in range(count * 3):
            if len(chosen) == count:
                break
            choices = self.choices()
            (make,) = self.chance.choices(list(choices), list(choices.values()))
            action = make()
            if action is None or (action.alone and chosen):
                continue
            if action.changes & self._pinned or any(_collide(action, it) for it in chosen):
                continue
            chosen.append(action)
            if action.alone:
                break
        return chosen

    def do(self, actions: Sequence[Action]) -> None:
        """Run actions that must succeed, at the same time."""
        for action, error in self._ran(actions):
            if error:
                raise AssertionError(f"{self.engine}/{self.driver}: {action.kind}: {error}")
            action.done()

    def try_to_do(
        self, actions: Sequence[Action], under: str, meanwhile: Callable[[], None]
    ) -> None:
        """Run actions that may fail, since something is disturbed.

        Args:
            actions: what to do.
            under: what disturbs them.
            meanwhile: runs at the same time.
        """
        for action in actions:
            self._doubtful |= dict.fromkeys(sorted(action.changes))
            self._pinned |= action.reads
        for action, error in self._ran(actions, meanwhile):
            if error:
                self.figures.refused[action.kind] += 1
                self.errors.judge(action.kind, under, str(error))
            else:
                self._late.append(action)

    def settle(self) -> None:
        """Check and remove what was changed while something was disturbed; nothing is any more."""
        for action in self._late:
            action.done()
        if self._all_stopped:
            self.note_all_stopped()
        for action in self._late:
            self.check_content(sorted(action.changes))
        self._late.clear()
        for name in self._doubtful:
            self.forget(name)
            self.images.pop(name, None)
            self.containers.pop(name, None)
        self.collect_garbage()
        self._doubtful.clear()
        self._pinned.clear()
        self._all_stopped = False

    def note_all_stopped(self) -> None:
        """Note that no container runs any more, whatever is noted later of the time before."""
        self._all_stopped = True
        for container in self.containers.values():
            container.runs = False

    def check_content(self, names: Sequence[str]) -> None:
        """Compare what images and containers hold, if they should be there."""
        for name in names:
            if name in self.containers:
                found, expected = self.content_of_container(name), self.containers[name].tree
            elif name in self.images:
                found, expected = self.content_of_image(name), self.images[name].tree
            else:
                continue
            differs = difference(found, expected)
            assert not differs, f"{name} holds other content"

    def note_calls(self) -> None:
        """Count the calls in the log of the process under test, and judge its errors."""
        for told in self.told():
            if "ms" in told:
                self.figures.calls[told["call"]] += 1
            if told["level"] in ("warning", "error"):
                self.errors.judge_log(told["message"])

    def told(self) -> Iterator[dict[str, Any]]:
        """Read the log of the process under test, record by record."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def complaints(self) -> list[str]:
        """Return the lines of the log that tell of more than calls and starts."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [
            one for one in lines if '"level": "debug"' not in one and '"level": "info"' not in one
        ]

    def _ran(
        self, actions: Sequence[Action], meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Action, RefusedError | None]]:
        with ThreadPoolExecutor(len(actions) or 1) as pool:
            running = [(action, pool.submit(action.run)) for action in actions]
            meanwhile()
        for action, future in running:
            self.figures.actions[action.kind] += 1
            try:
                future.result()
            except RefusedError as error:
                self.journal.append(f"refused: {action.kind} {sorted(action.changes)}")
                yield action, error
            else:
                self.journal.append(f"done: {action.kind} {sorted(action.changes)}")
                yield action, None


def _collide(one: Action, other: Action) -> bool:
    return bool(
        one.changes & (other.changes | other.reads) or other.changes & (one.changes | one.reads)
    )


def end_shims(folder: Path) -> None:
    """Kill what killed engines have left behind: shims, and the helper of a step's FUSE mount."""
    stay = ("containerd-shim", "fuse-overlayfs")
    wait_until(
        lambda: all(
            any(one in line for one in stay) for line in leftovers.processes_of(folder).values()
        )
    )
    for pid in leftovers.processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    leftovers.end_starting(folder)
