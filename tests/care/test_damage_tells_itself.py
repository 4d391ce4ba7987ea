"""A call that meets a damaged layer names that layer and fsck: no bare errno, and no other layer."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Handler
from graphdriver.conformance.plugin import tars
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.docker.request_messages import Request
from graphdriver.drivers.loading import make
from graphdriver.errors import GraphDriverError, LayerDamagedError
from tests.care.damages import Way, cases

pytestmark = pytest.mark.root

LAYERS = (("base", ""), ("mid", "base"), ("top", "mid"))


class Plugin:
    """A handler that a daemon has sent Init to, in this process."""

    def __init__(self, name: str, home: Path) -> None:
        self.home = home
        self.handler = Handler(make(name))
        self.ask("Init", Home=str(home), Opts=[], UIDMaps=[], GIDMaps=[])

    def ask(self, call: str, body: bytes = b"", **members: object) -> tuple[str, str]:
        """Make a call; return the text and the kind of its error."""
        text = body or json.dumps(members).encode()
        query = "&".join(f"{key.lower()}={value}" for key, value in members.items())
        request = Request("POST", f"/GraphDriver.{call}", query if body else "", io.BytesIO(text))
        answer = self.handler.handle(request)
        if isinstance(answer.body, bytes):
            found = json.loads(answer.body)
            return found.get("Err", ""), found.get("Kind", "")
        try:
            with contextlib.closing(answer.body):
                while answer.body.read(100_000):
                    pass
        except GraphDriverError as error:
            return str(error), error.kind.value
        return "", ""


@contextlib.contextmanager
def running(name: str, home: Path) -> Iterator[Plugin]:
    plugin = Plugin(name, home)
    try:
        yield plugin
    finally:
        plugin.ask("Cleanup")
        plugin.handler.close()


@pytest.fixture
def home(name: str, place: Path) -> Path:
    path = place / "home"
    with running(name, path) as plugin:
        for id, parent in LAYERS:
            plugin.ask("Create", ID=id, Parent=parent)
            tar = tars.tar(tars.file(id.encode(), id.encode()))
            assert plugin.ask("ApplyDiff", tar, ID=id, Parent=parent) == ("", "")
    return path


def calls_of(plugin: Plugin) -> dict[str, tuple[str, str]]:
    """Make all calls that look at layers; return the errors of those that fail."""
    answers = {}
    for id, parent in LAYERS:
        answers[f"Get {id}"] = plugin.ask("Get", ID=id)
        if not answers[f"Get {id}"][0]:
            plugin.ask("Put", ID=id)
        answers[f"Create on {id}"] = plugin.ask("Create", ID=f"on-{id}", Parent=id)
        for call in ("Diff", "Changes", "DiffSize"):
            answers[f"{call} {id}"] = plugin.ask(call, ID=id, Parent=parent)
        answers[f"GetMetadata {id}"] = plugin.ask("GetMetadata", ID=id)
        plugin.ask("Remove", ID=f"on-{id}")
    return {call: answer for call, answer in answers.items() if answer[0]}


def check_answers(answers: dict[str, tuple[str, str]], layer: str, home: Path) -> None:
    for call, (text, kind) in answers.items():
        if kind == "not found":  # a layer that is gone itself
            continue
        if "is a plain directory, not a subvolume" in text:
            continue
        assert kind == "damaged", (call, text)
        words = rf"\blayer ({layer}|mid) is damaged: .+; graphdriver fsck {home}$"
        assert re.search(words, text), text


@pytest.mark.parametrize(("name", "one"), cases())
def test_a_call_names_the_damaged_layer(name: str, one: Way, home: Path) -> None:
    layer = one.layer or "no layer"
    with running(name, home) as plugin:
        one.damage(home)
        answers = calls_of(plugin)
        check_answers(answers, layer, home)
        assert {f"Get {id}" for id in one.hits} <= answers.keys()
    with running(name, home) as plugin:  # the start of a plugin repairs what it can without loss
        answers = calls_of(plugin)
        check_answers(answers, layer, home)
        if not one.repairs:
            assert {f"Get {id}" for id in one.hits} <= answers.keys()


def lose(home: Path, layer: str) -> None:
    for directory in ("diff", "root", "layer.erofs"):
        path = home / layer / directory
        if path.exists():
            path.rename(home / f".{directory}")


def test_a_snapshot_on_a_damaged_layer_is_refused_in_the_same_words(name: str, place: Path) -> None:
    root = place / "root"
    with contextlib.closing(Snapshots(make(name), str(root))) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("image", "a", {})
        snapshots.prepare("container", "image", {})
        lose(root, "1")
        words = rf"layer 1 is damaged: .+; graphdriver fsck {root}$"
        with pytest.raises(LayerDamagedError, match=words):
            snapshots.prepare("b", "image", {})
        with pytest.raises(LayerDamagedError, match=words):
            snapshots.view("view", "image", {})
        if name not in ("vfs", "btrfs"):  # a copy and a snapshot need no parent
            with pytest.raises(LayerDamagedError, match=words):
                snapshots.mounts("container")
        snapshots.served.driver.cleanup()
