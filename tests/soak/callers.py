"""Callers that use a plugin as daemons do, and see whether each answer is right.

An `Owner` has layers that nobody else touches, on parents that all share: it knows every answer
beforehand. A `Crowd` has one chain of two layers that all its members are at; what they see must fit
some order of their calls (`tests.soak.history`).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Answer, Wire
from tests.soak import content
from tests.soak.content import Tree
from tests.soak.history import Did, State, outcomes
from tests.support.waiting import wait_until


@dataclass
class Plugin:
    """What is called: where it listens, and what its driver can bear."""

    path: str
    outlives_parents: bool
    """Whether a layer can do without its parent, once it is made."""


class Caller:
    """One connection, used for one call after the other."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.wire = Wire(plugin.path)
        self.calls = 0

    def asks(self, sent: bytes) -> Answer:
        self.calls += 1
        return self.wire.ask(sent)

    def does(self, method: str, **members: object) -> dict[str, object]:
        """Make a call that must succeed."""
        answer = self.asks(wire.call(method, **members))
        assert answer.status == 200, answer
        return answer.members

    def is_refused(self, said: str, sent: bytes) -> None:
        """Make a call that must fail, and say why."""
        answer = self.asks(sent)
        assert answer.status == 500, answer
        assert said in answer.error, answer

    def diff(self, id: str, parent: str = "") -> bytes:
        answer = self.asks(wire.call("Diff", ID=id, Parent=parent))
        assert answer.status == 200, answer
        assert answer.is_whole
        return answer.body


@dataclass
class Layer:
    """What an owner knows of one of its layers."""

    id: str
    parents: tuple[Layer, ...]
    """All ancestors, the direct one first."""
    tree: Tree
    is_fresh: bool = True
    """It can still be applied to."""
    is_writable: bool = False
    children: int = 0
    was_parent: bool = False
    """It has, or had, children: nobody writes to it any more."""
    path: str = ""
    held: int = 0
    diffs: dict[str, bytes] = field(default_factory=dict)
    """What Diff gave, by parent; it must never give anything else."""

    @property
    def parent(self) -> str:
        return self.parents[0].id if self.parents else ""

    def below(self, parent: str) -> Tree:
        return next((one.tree for one in self.parents if one.id == parent), {})


class Owner(Caller):
    """Makes layers of its own, and knows all about them."""

    def __init__(
        self, plugin: Plugin, name: str, chance: random.Random, shared: list[Layer]
    ) -> None:
        super().__init__(plugin)
        self._name = name
        self._chance = chance
        self._shared = shared
        self._layers: list[Layer] = []
        self._made = 0
        self._acts: dict[Callable[[], None], int] = {
            self._make: 5,
            self._hold: 4,
            self._write: 2,
            self._compare: 8,
            self._ask_the_impossible: 2,
            self._say_it_twice: 2,
            self._break_off: 1,
            self._hang_up: 1,
            self._remove: 3,
        }

    def act(self) -> None:
        """Do something."""
        (act,) = self._chance.choices(list(self._acts), list(self._acts.values()))
        act()

    def leave(self) -> None:
        """Remove everything, children first."""
        for layer in reversed(self._layers):
            self.does("Remove", ID=layer.id)
        self._layers.clear()
        self.wire.close()

    def _any(self) -> Layer:
        return self._chance.choice([*self._layers, *self._shared])

    def _new(self) -> str:
        self._made += 1
        return f"{self._name}-{self._made}"

    def _make(self) -> None:
        if len(self._layers) > 12:
            self._remove()
            return
        id = self._new()
        nothing = self._chance.random() < 0.2
        below = [] if nothing else [one for one in (self._any(),) if len(one.parents) < 6]
        parents = (below[0], *below[0].parents) if below else ()
        parent = parents[0].id if parents else ""
        tree = dict(parents[0].tree) if parents else {}
        layer = Layer(id, parents, tree)
        for one in below:
            one.children += 1
            one.was_parent = True
        method = self._chance.choice(["Create", "Create", "CreateReadWrite"])
        assert self.does(method, ID=id, Parent=parent) == {}
        self._layers.append(layer)
        if method == "CreateReadWrite":
            layer.is_writable = True
        elif self._chance.random() < 0.9:
            self._apply(layer)

    def _apply(self, layer: Layer) -> None:
        after, tar, size = content.changed(self._chance, layer.tree)
        cut = self._chance.choice([512, 700, 32 << 10])
        chunks = b"".join(wire.chunks(tar, cut)) + wire.LAST_CHUNK
        answer = self.asks(wire.apply_head(layer.id, layer.parent) + chunks)
        assert answer.members == {"Size": size}, answer
        layer.tree, layer.is_fresh = after, False
        self._changed(layer)

    def _hold(self) -> None:
        layer = self._any()
        if layer.held and self._chance.random() < 0.6:
            layer.held -= 1
            assert self.does("Put", ID=layer.id) == {}
            return
        path = str(self.does("Get", ID=layer.id)["Dir"])
        assert os.path.isabs(path)
        assert content.on_disk(path) == layer.tree, layer.id
        if layer in self._layers:
            assert path == layer.path or not layer.held
            layer.path = path
            layer.held += 1
        else:
            assert self.does("Put", ID=layer.id) == {}

    def _write(self) -> None:
        """Write into a container's layer, through its folder."""
        open_ones = [
            one for one in self._layers if one.is_writable and not one.was_parent and one.tree
        ]
        if not open_ones:
            return
        layer = self._chance.choice(open_ones)
        folders = [path for path, one in layer.tree.items() if one.kind == "folder"]
        folder = self._chance.choice(folders)
        path, file = f"{folder}/f{self._chance.randrange(9)}", content.node(self._chance, "file")
        root = str(self.does("Get", ID=layer.id)["Dir"])
        content.write(root, path, file)
        when = layer.tree[folder].mtime
        os.utime(os.path.join(root, folder), (when, when))
        layer.tree[path] = file
        self._changed(layer)
        assert self.does("Put", ID=layer.id) == {}

    def _changed(self, layer: Layer) -> None:
        """Forget the Diffs that are others now."""
        layer.diffs.clear()
        for other in self._layers:
            other.diffs.pop(layer.id, None)

    def _compare(self) -> None:
        """Ask in one of three ways what a layer changes of one below it."""
        layer = self._any()
        parent = self._chance.choice(
            ["", layer.parent, layer.parent, *(p.id for p in layer.parents)]
        )
        below = layer.below(parent)
        call = self._chance.choice(["Diff", "Diff", "Changes", "DiffSize"])
        if call == "Diff":
            data = self.diff(layer.id, parent)
            assert content.entries(data) == content.diff(layer.tree, below), (layer.id, parent)
            before = layer.diffs.setdefault(parent, data)
            assert before == data, content.compared(before, data)
        elif call == "Changes":
            said = self.does("Changes", ID=layer.id, Parent=parent)["Changes"]
            assert isinstance(said, list)
            found = {one["Path"]: one["Kind"] for one in said}
            assert len(found) == len(said)
            expected = content.changes(layer.tree, below)
            assert found == {f"/{path}": kind for path, kind in expected.items()}
        else:
            said = self.does("DiffSize", ID=layer.id, Parent=parent)["Size"]
            assert said == content.size(layer.tree, below)

    def _ask_the_impossible(self) -> None:
        """Ask of layers that are not there, or say what is no call."""
        missing, any = self._new(), self._any().id
        assert self.does("Exists", ID=missing) == {"Exists": False}
        assert self.does("Exists", ID=any) == {"Exists": True}
        assert self.does("Remove", ID=missing) == {}
        call = self._chance.choice(["Get", "Put", "Diff", "Changes", "DiffSize", "GetMetadata"])
        self.is_refused("does not exist", wire.call(call, ID=missing))
        self.is_refused("does not exist", wire.call("Create", ID=missing, Parent=missing + "0"))
        self.is_refused("does not exist", wire.call("Diff", ID=any, Parent=missing))
        self.is_refused("only a layer that was just created", wire.apply(missing, b""))
        assert self.does("Exists", ID=missing) == {"Exists": False}
        for bad in (wire.call("Get", ID="../" + any), wire.sent_again("Create")):
            answer = self.asks(bad)
            assert (answer.status, "ID " in answer.error) == (400, True)

    def _say_it_twice(self) -> None:
        layer = self._any()
        self.is_refused("exists", wire.call("Create", ID=layer.id))
        if layer.is_fresh and not (layer.is_writable or layer.was_parent):
            self._apply(layer)
        if not layer.is_fresh:
            _, tar, _ = content.changed(self._chance, layer.tree)
            self.is_refused("remove it and load again", wire.apply(layer.id, tar))

    def _break_off(self) -> None:
        """Let a layer's transfer break off, and see that it is no layer then."""
        id = self._new()
        _, tar, _ = content.changed(self._chance, {})
        assert self.does("Create", ID=id) == {}
        with Wire(self.plugin.path) as broken:
            broken.send(wire.apply_head(id), *wire.chunks(tar[: self._chance.randrange(len(tar))]))
            assert "broke off" in broken.end_sending().answer().error
        for call in (wire.call("Get", ID=id), wire.call("Create", ID=id), wire.apply(id, tar)):
            self.is_refused("remove it", call)
        assert self.does("Remove", ID=id) == {}

    def _hang_up(self) -> None:
        """Go in the middle of a Diff, and before the answer to a Get, which holds nothing then."""
        layer = self._any()
        for call in ("Diff", "Get"):
            with Wire(self.plugin.path) as gone:
                gone.send(wire.call(call, ID=layer.id))
                if call == "Diff":
                    gone.take(self._chance.randrange(1, 1000))  # the shortest has some more
        if layer in self._layers and not layer.held:
            told = self.does("GetMetadata", ID=layer.id)["Metadata"]
            assert isinstance(told, dict)
            where = told.get("MergedDir", "")
            wait_until(lambda: not os.path.ismount(where))

    def _remove(self) -> None:
        gone = [one for one in self._layers if self.plugin.outlives_parents or not one.children]
        if not gone:
            return
        layer = self._chance.choice(gone)
        assert self.does("Remove", ID=layer.id) == {}
        assert self.does("Exists", ID=layer.id) == {"Exists": False}
        self._layers.remove(layer)
        if layer.parents:
            layer.parents[0].children -= 1
        for other in self._layers:  # what cannot be asked against it any more
            other.parents = tuple(one for one in other.parents if one is not layer)
            other.diffs.pop(layer.id, None)

    def close(self) -> None:
        self.wire.close()


# --- many callers at one layer --------------------------------------------------------------------

ABSENT, UNFINISHED = "absent", "unfinished"
ENDS = {"diff": ("remove", "apply 1", "apply 2", "break"), "diff high": ("remove high",)}
"""What may break a Diff off."""


class Crowd:
    """Callers that make, fill, read and remove one layer and one that stands on it, all at once.

    The state of each of the two layers is `ABSENT`, `UNFINISHED`, or a pair: which of the tars it
    shows (0 for none), and whether it can still be applied to.
    """

    def __init__(self, plugin: Plugin, name: str, seed: str, members: int) -> None:
        chance = random.Random(seed)
        self._plugin = plugin
        self._low, self._high = f"{name}-low", f"{name}-high"
        self._trees: list[Tree] = [{}]
        self._tars = [b""]
        for _ in range(2):
            tree, _, _ = content.changed(chance, {})
            for number in range(3):  # more than is read at a time, so that a Diff can be broken off
                tree[f"big-{number}"] = content.node(chance, "file", 200_000)
            self._trees.append(tree)
            self._tars.append(content.tar(tree, []))
        self._states: set[State] = {(ABSENT, ABSENT)}
        self._history: list[Did] = []
        self._meet = threading.Barrier(members)
        self._members = members
        self._seed = seed

    def run(self, number: int, until: float) -> int:
        """Be one member; return how many calls were made."""
        chance = random.Random(f"{self._seed}/{number}")
        caller = Caller(self._plugin)
        try:
            while self._goes_on(number, until):
                for _ in range(chance.randrange(1, 4)):
                    self._act(caller, chance)
                self._meet.wait(wire.TIMEOUT)
                if number == 0:
                    self._check()
            if number == 0:
                for id in (self._high, self._low):
                    caller.does("Remove", ID=id)
        except BaseException:
            self._meet.abort()
            raise
        finally:
            caller.wire.close()
        return caller.calls

    def _goes_on(self, number: int, until: float) -> bool:
        """Agree with all members on whether there is another burst."""
        if number == 0:
            self._more = time.monotonic() < until
        self._meet.wait(wire.TIMEOUT)
        return self._more

    def _act(self, caller: Caller, chance: random.Random) -> None:
        call = chance.choice(
            [
                *("create", "create", "apply 1", "apply 2", "break", "diff", "diff", "get"),
                *("exists", "remove", "stand", "stand", "diff high", "diff high", "remove high"),
            ]
        )
        started = time.monotonic()
        result = self._result(caller, call)
        self._history.append(Did(started, time.monotonic(), call, result))

    def _result(self, caller: Caller, call: str) -> str | int:
        """Make a call; return ``ok``, the number of the tar that was seen, or why it was refused."""
        if call == "break":
            with Wire(self._plugin.path) as broken:
                broken.send(wire.apply_head(self._low), *wire.chunks(self._tars[1][:700]))
                return _why(broken.end_sending().answer().error)
        sent = {
            "create": wire.call("Create", ID=self._low),
            "apply 1": wire.apply(self._low, self._tars[1]),
            "apply 2": wire.apply(self._low, self._tars[2]),
            "diff": wire.call("Diff", ID=self._low),
            "get": wire.call("Get", ID=self._low),
            "exists": wire.call("Exists", ID=self._low),
            "remove": wire.call("Remove", ID=self._low),
            "stand": wire.call("Create", ID=self._high, Parent=self._low),
            "diff high": wire.call("Diff", ID=self._high),
            "remove high": wire.call("Remove", ID=self._high),
        }[call]
        answer = caller.asks(sent)
        if answer.status != 200:
            return _why(answer.error)
        if call == "exists":
            return str(answer.members["Exists"])
        if call not in ("diff", "diff high"):
            return "ok"
        if not answer.is_whole:
            caller.wire.close()
            caller.wire = Wire(self._plugin.path)
            return "broken"
        return self._trees.index(_present(content.entries(answer.body)))

    def _check(self) -> None:
        self._states = outcomes(self._history, self._states, self._after)
        assert self._states, "no order explains this:\n" + "\n".join(
            f"{did.started:.6f} {did.ended:.6f} {did.call}: {did.result}"
            for did in sorted(self._history, key=lambda did: did.started)
        )
        self._history = []

    def _after(self, did: Did, state: State) -> State | None:
        assert isinstance(state, tuple)
        low, high = state
        is_held = high != ABSENT and not self._plugin.outlives_parents
        expected: str | int
        then = low, high
        if did.call == "create":
            expected = "ok" if low == ABSENT else "it exists"
            if low == ABSENT:
                then = (0, True), high
        elif did.call in ("apply 1", "apply 2", "break"):
            fresh = isinstance(low, tuple) and low[1]
            expected = "ok" if fresh else "remove it"
            if fresh and is_held:
                expected = "it is a parent"  # and stays as it was
            elif fresh and did.call == "break":
                then, expected = (UNFINISHED, high), "it broke off"
            elif fresh:
                then = (int(did.call[-1]), False), high
        elif did.call in ("diff", "diff high"):
            layer = low if did.call == "diff" else high
            expected = _seen(layer)
            if did.result == "broken":  # somebody was at it
                ends = ENDS[did.call]
                if not any(one.call in ends and one.overlaps(did) for one in self._history):
                    return None
                return then if isinstance(layer, tuple) else None
        elif did.call == "get":
            expected = "ok" if isinstance(low, tuple) else str(_seen(low))
        elif did.call == "exists":
            expected = str(low != ABSENT)
        elif did.call == "remove" and is_held:
            expected = "it is a parent"
        elif did.call == "remove":
            expected, then = "ok", (ABSENT, high)
        elif did.call == "remove high":
            expected, then = "ok", (low, ABSENT)
        else:  # stand
            expected = "ok"
            if not isinstance(low, tuple):
                expected = _seen(low)
            elif high != ABSENT:
                expected = "it exists"
            else:
                then = low, (low[0], True)
        return then if did.result == expected else None


def _seen(layer: object) -> str | int:
    if isinstance(layer, tuple):
        assert isinstance(layer[0], int)
        return layer[0]
    return "it is not there" if layer == ABSENT else "remove it"


def _present(entries: dict[str, content.Node | None]) -> Tree:
    found = {path: one for path, one in entries.items() if one}
    assert len(found) == len(entries), "a whiteout in a layer on nothing"
    return found


def _why(error: str) -> str:
    for part, why in (
        ("the body broke off", "it broke off"),
        ("did not finish; remove it first", "it exists"),
        ("remove it and load", "remove it"),
        ("exists already", "it exists"),
        ("does not exist", "it is not there"),
        ("is the parent of layer", "it is a parent"),
    ):
        if part in error:
            return why
    raise AssertionError(f"nobody expects {error!r}")
