"""A snapshotter killed with -9 while it pulls a layer that it reads in place, or removes one.

The next process must have the layer whole or not at all, and a pull that is made again completes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.containerd.shared_layers import REF
from graphdriver.shared.keys import Link
from tests.crash import strace
from tests.crash.keeper import Keeper, KilledError
from tests.crash.test_kills import NotReachedError, ground, unmount_below, until_reached
from tests.support import inspection
from tests.support.long import times
from tests.support.mounting import mount
from tests.support.shared_store import links_of, store_with

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

LAYERS = [
    tars.tar(tars.directory(b"./", 0o755), tars.directory(b"d"), tars.file(b"d/one", b"one")),
    tars.tar(tars.file(b"d/two", b"two" * 4000), tars.hard_link(b"d/again", b"d/one")),
]
LINKS = links_of(LAYERS)
SHOWN = [{"d/one": "one"}, {"d/one": "one", "d/again": "one", "d/two": "two" * 4000}]


@dataclass
class Node:
    """A node's root, and whoever keeps it."""

    root: Path
    store: Path
    keeper: Keeper

    def restart(self) -> None:
        """Start a new process, as systemd does after a kill."""
        self.keeper.__exit__()
        self.keeper = Keeper("erofs", self.root, shared=self.store).__enter__()

    def pull(self, number: int) -> None:
        """Pull a layer; all below it are here."""
        link = LINKS[number]
        labels = {REF: link.chain_id}
        with pytest.raises(RuntimeError, match="is here"):
            self.keeper.ask("prepare", f"{number}", self.key(LINKS[number - 1], number), labels)

    def key(self, link: Link, number: int = 1) -> str:
        """Return the committed snapshot of a layer; ``""`` below the first, or if none exists."""
        found = [
            key for key, kind, _, _, labels, _ in self.all() if labels.get(REF) == link.chain_id
        ]
        return str(found[0]) if number and found else ""

    def all(self) -> list[list[Any]]:
        """Return what is known of all snapshots."""
        told: list[list[Any]] = self.keeper.ask("all")
        return told

    def remove(self, number: int) -> None:
        """Remove a layer."""
        self.keeper.ask("remove", self.key(LINKS[number]))

    def look(self) -> None:
        """See that each layer that is here shows what it should."""
        for link, files in zip(LINKS, SHOWN, strict=True):
            if not (key := self.key(link)):
                continue
            kind, source, options = self.keeper.ask("view", "look", key, {})
            place = self.root.with_name("place")
            place.mkdir(exist_ok=True)
            mount(kind, source, str(place), ",".join(options))
            try:
                assert {name: (place / name).read_text() for name in files} == files
            finally:
                subprocess.run(["umount", "--lazy", str(place)], check=True)
            self.keeper.ask("remove", "look")


@contextlib.contextmanager
def node_on(folder: Path, store: Path) -> Iterator[Node]:
    """Begin with an empty root."""
    above = Path(tempfile.mkdtemp(prefix="n", dir=folder))
    keeper = Keeper("erofs", above / "root", shared=store).__enter__()
    node = Node(above / "root", store, keeper)
    try:
        yield node
    finally:
        node.keeper.__exit__()
        unmount_below(above)
    shutil.rmtree(above)


STEPS = {"pull": lambda node: node.pull(1), "remove": lambda node: node.remove(1)}


def began(node: Node, step: str) -> None:
    """Go up to a step."""
    node.pull(0)
    if step == "remove":
        node.pull(1)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_leaves_a_layer_in_place_whole_or_absent(step: str) -> None:
    with ground("erofs") as folder:
        store = Path(store_with(folder, LAYERS).store.address)
        with node_on(folder, store) as node:
            began(node, step)
            main = node.keeper.threads()[0]
            with strace.traced(node.keeper.pid, node.keeper.log) as trace:
                STEPS[step](node)
        calls = trace.calls[main]
        assert len(calls) > 8
        failures = []
        for call in calls[:: -(-len(calls) // times(gate=4, long=1000))]:
            try:
                until_reached(lambda: play(folder, store, step, call))  # noqa: B023
            except Exception as error:
                failures.append(f"{step}, {call}\n  {type(error).__name__}: {error}")
        assert not failures, "\n\n".join(failures)


def play(folder: Path, store: Path, step: str, call: strace.Call) -> None:
    """Kill before a call, and see what is left."""
    with node_on(folder, store) as node:
        began(node, step)
        main = node.keeper.threads()[0]
        with strace.killing_at(call, [main]), pytest.raises(KilledError):
            STEPS[step](node)
            raise NotReachedError("this point was not reached")
        node.restart()
        for key, kind, *_ in node.all():
            if kind == "ACTIVE":  # containerd's garbage collection removes what it does not know
                node.keeper.ask("remove", key)
        node.look()
        if not node.key(LINKS[1]):
            node.pull(1)
        node.look()
        assert node.key(LINKS[1])
        node.remove(1)
        node.remove(0)
        node.keeper.ask("cleanup")
        assert node.all() == []
        assert not [name for name in os.listdir(node.root) if name.isdecimal()]
        assert not inspection.mounted(node.root)
