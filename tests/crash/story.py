"""The life of some layers, step by step, and what must be true between the steps.

What the layers must hold is told by plain folders (`Trees`), made with nothing but the calls that one
would make by hand, and never by what a driver once did.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.docker.client import Client
from graphdriver.errors import RemoteError
from tests.support.two_layers import TAR_A, TAR_B, TIME, set_time, write_into_a, write_into_b

Tree = Mapping[bytes, object]

HALF: Tree = {b"": "bears the mark of an ApplyDiff that did not end"}
"""Stands for what a layer holds that must not be used."""


def write_into_c(root: str) -> None:
    """Do what a container does to its root."""
    at = Path(root)
    (at / "data").mkdir()
    (at / "data/file").write_text("written by a container")
    (at / "etc/hosts").unlink()
    (at / "noted").write_text("changed")
    for name in ("data/file", "data", "etc", "noted"):
        set_time(at / name, TIME + 2)


@dataclass
class World:
    """What must be true: what each layer holds, and how often it is held."""

    layers: dict[str, Tree] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def copy(self) -> World:
        return World(dict(self.layers), dict(self.held))


class Trees:
    """What the layers hold, by name; made in a folder, once."""

    def __init__(self, folder: Path) -> None:
        root = str(folder)
        self.empty = record(root)
        write_into_a(root)
        self.a = record(root)
        write_into_b(root)
        self.b = record(root)
        write_into_c(root)
        self.c = record(root)


class Scene:
    """A plugin's client, a home, and what the steps so far have made of them."""

    def __init__(self, client: Client, home: Path, trees: Trees) -> None:
        self.client = client
        self.home = home
        self.trees = trees
        self.world = World()
        self.roots: dict[str, str] = {}


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        name: says what it is.
        layer: the layer that it is about; ``""`` if none.
        do: makes the call.
        then: changes the `World` accordingly.
        applies: it is an ApplyDiff, so a kill may leave the layer marked.
        reads: another layer that it reads.
        holds: how often it holds these layers itself while it goes on.
        is_start: it is no call but the start of a new process; done only where it is asked for.
    """

    name: str
    layer: str
    do: Callable[[Scene], None]
    then: Callable[[World, Trees], None] = lambda world, trees: None
    applies: bool = False
    reads: str = ""
    holds: int = 0
    is_start: bool = False

    def run(self, scene: Scene) -> None:
        self.do(scene)
        self.then(scene.world, scene.trees)


def _init(scene: Scene) -> None:
    scene.client.init(str(scene.home), [], [], [])


def _create(id: str, parent: str) -> Callable[[Scene], None]:
    return lambda scene: scene.client.create(id, parent, "", {})


def _apply(id: str, parent: str, tar: bytes) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        scene.client.apply_diff(id, parent, io.BytesIO(tar))

    return do


def _apply_half(scene: Scene) -> None:
    # The body is whole, but not the tar: a refusal leaves the connection as it is.
    with pytest.raises(RemoteError, match="tar"):
        scene.client.apply_diff("d", "", io.BytesIO(TAR_A[:2000]))


def _get(id: str) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        scene.roots[id] = scene.client.get(id, "")

    return do


def _write(scene: Scene) -> None:
    write_into_c(scene.roots["c"])


def _diff(id: str, parent: str, expected: bytes) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        with contextlib.closing(scene.client.diff(id, parent)) as stream:
            diff = bytearray()
            while piece := stream.read(1 << 16):
                diff += piece
        assert expected in diff

    return do


def _holds(id: str, now: int) -> Callable[[World, Trees], None]:
    return lambda world, trees: world.held.update({id: now})


def _is(id: str, tree: Callable[[Trees, World], Tree]) -> Callable[[World, Trees], None]:
    return lambda world, trees: world.layers.update({id: tree(trees, world)})


def _remove(id: str) -> Step:
    def then(world: World, _trees: Trees) -> None:
        del world.layers[id]
        world.held.pop(id, None)

    return Step(f"remove {id}", id, lambda scene: scene.client.remove(id), then)


def _cleanup(scene: Scene) -> None:
    scene.client.cleanup()


def _of_parent(parent: str) -> Callable[[Trees, World], Tree]:
    return lambda trees, world: world.layers[parent]


STORY = (
    Step("init", "", _init),
    Step("create a", "a", _create("a", ""), _is("a", lambda t, _: t.empty)),
    Step("apply a", "a", _apply("a", "", TAR_A), _is("a", lambda t, _: t.a), applies=True),
    Step("create b", "b", _create("b", "a"), _is("b", _of_parent("a"))),
    Step("apply b", "b", _apply("b", "a", TAR_B), _is("b", lambda t, _: t.b), applies=True),
    Step(
        "create c",
        "c",
        lambda scene: scene.client.create_read_write("c", "b", "", {}),
        _is("c", _of_parent("b")),
    ),
    Step("get c", "c", _get("c"), _holds("c", 1)),
    Step("write into c", "c", _write, _is("c", lambda t, _: t.c)),
    Step("get c again", "c", _get("c"), _holds("c", 2)),
    Step("start", "", lambda scene: None, is_start=True),
    Step("diff c", "c", _diff("c", "b", b"written by a container"), holds=1),
    Step("diff c against a", "c", _diff("c", "a", b"written by a container"), reads="a", holds=1),
    Step("put c", "c", lambda scene: scene.client.put("c"), _holds("c", 1)),
    Step("put c for the last time", "c", lambda scene: scene.client.put("c"), _holds("c", 0)),
    Step("get c for cleanup", "c", _get("c"), _holds("c", 1)),
    Step("cleanup", "", _cleanup, _holds("c", 0)),
    Step("init again", "", _init),
    Step("create d", "d", _create("d", ""), _is("d", lambda t, _: t.empty)),
    Step("apply half of d", "d", _apply_half, _is("d", lambda _t, _w: HALF), applies=True),
    _remove("d"),
    Step("get c to remove it", "c", _get("c"), _holds("c", 1)),
    _remove("c"),
    Step("get b", "b", _get("b"), _holds("b", 1)),
    Step("put b", "b", lambda scene: scene.client.put("b"), _holds("b", 0)),
    _remove("b"),
    _remove("a"),
)


def first_step_of(number: int) -> int:
    """Return the step that made the layer of another step, by their numbers; itself if none did."""
    layer = STORY[number].layer
    if not layer:
        return number
    return next(n for n, step in enumerate(STORY) if step.layer == layer)
