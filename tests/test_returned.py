"""What a driver returns is checked where it enters: the error names the method and the value."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver import Capabilities, Change, ChangeKind, Handler, NaiveDiffDriver
from graphdriver.abilities import Mount, Usage
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.docker.codec import encode
from graphdriver.docker.messages import InitRequest
from graphdriver.docker.request_messages import Request
from graphdriver.errors import GraphDriverError, RemoteError
from tests.support.plugin import Plugin, served
from tests.support.tarbox import TarBox


@pytest.fixture
def ready() -> Iterator[Plugin]:
    """A plugin after Init."""
    with served() as plugin, plugin.client() as client:
        client.init(plugin.home, [], [], [])
        yield plugin


class Unreadable:
    """A stream that only closes."""

    def close(self) -> None:
        pass


class Stream(io.BytesIO):
    """Returns the value that the test chose."""

    def __init__(self, given: object) -> None:
        super().__init__()
        self.given = given

    def read(self, _: int | None = -1, /) -> Any:
        return self.given


class Text(str):
    """A string of another class is a string."""


WRONG: dict[str, list[object]] = {
    "get": ["layers/a", "", "/", "/a/../b", "/a//b", "/a/", "/a\0", Path("/a"), b"/a", None, 7],
    "exists": [None, 1, "yes", os.stat("/")],
    "status": [None, {"a": "b"}, "up", ["ab"], [("a",)], [("a", 1)], [("a", "b", "c")], 7],
    "get_metadata": [None, [("a", "b")], {"a": 1}, {1: "a"}, {"a": None}],
    "capabilities": [None, True, {"reproduces_exact_diffs": True}, Capabilities("yes")],  # type: ignore[arg-type]
    "changes": [
        None,
        "/a",
        7,
        ["/a"],
        [("/a", 1)],
        [Change("a", ChangeKind.ADDED)],
        [Change("/a", 1)],  # type: ignore[arg-type]
        [Change(b"/a", ChangeKind.ADDED)],  # type: ignore[arg-type]
        [Change("/a", ChangeKind.ADDED), None],
    ],
    "diff": [None, b"tar", "tar", Unreadable(), iter([b"tar"]), open],
    "diff_size": [None, "7", 7.0, -1, True, 2**63],
    "apply_diff": [None, "7", 7.0, -1, True, 2**63],
}


@pytest.mark.parametrize(
    ("method", "value"), [(method, value) for method, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_an_error_that_names_method_and_value(
    ready: Plugin,
    method: str,
    value: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = ready.box
    arguments = {"status": (), "capabilities": (), "get": ("a", "")}.get(method, ("a",))
    with ready.client() as client:
        client.create("a")
        if method != "apply_diff":
            client.apply_diff("a", "", io.BytesIO(b"tar"))
        monkeypatch.setattr(box, method, lambda *_: value)
        with pytest.raises(RemoteError) as caught:
            if method == "apply_diff":
                client.apply_diff("a", "", io.BytesIO(b"tar"))
            else:
                getattr(client, method)(*arguments)
    text = str(caught.value)
    assert f"the driver's {method} returned " in text
    assert ", and must return " in text
    assert text.endswith("; correct the driver")
    assert len(text) < 400
    offender = value
    if isinstance(value, list) and method != "get_metadata":
        offender = value[-1]
        assert " among others" in text
    if not isinstance(value, dict):
        assert f"({type(offender).__name__})" in text


@pytest.mark.parametrize("piece", [None, "tar", 7, [1]])
def test_a_stream_gives_bytes_and_nothing_else(
    ready: Plugin,
    piece: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ready.client() as client:
        client.create("a")
        stream = Stream(piece)
        monkeypatch.setattr(ready.box, "diff", lambda *_: stream)
        with pytest.raises(RemoteError, match=r"^diff a: the driver's read of what diff returned"):
            client.diff("a")
        assert stream.closed


def test_what_is_right_in_another_class_is_right(
    ready: Plugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = ready.box
    with ready.client() as client:
        client.create("a")
        monkeypatch.setattr(box, "get", lambda *_: Text("/a"))
        monkeypatch.setattr(box, "status", lambda: [["a", Text("b")]])
        monkeypatch.setattr(box, "changes", lambda *_: iter([Change("/a", ChangeKind.ADDED)]))
        assert client.get("a") == "/a"
        assert client.status()[0] == ("a", "b")
        assert client.changes("a") == (Change("/a", ChangeKind.ADDED),)


def test_an_apply_that_returns_nothing_leaves_no_layer_that_passes_for_whole(
    ready: Plugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ready.client() as client:
        client.create("a")
        monkeypatch.setattr(ready.box, "apply_diff", lambda *_: None)
        with pytest.raises(RemoteError, match="apply_diff returned None"):
            client.apply_diff("a", "", io.BytesIO(b"tar"))
        with pytest.raises(RemoteError, match="transfer did not finish"):
            client.get("a")


def test_an_init_does_not_go_by_wrong_capabilities(tmp_path: Path) -> None:
    box = TarBox()
    box.capabilities = lambda: None  # type: ignore[method-assign, assignment, return-value]
    handler = Handler(box)
    body = io.BytesIO(encode(InitRequest(str(tmp_path / "home"))))
    answer = handler.handle(Request("POST", "/GraphDriver.Init", "", body))
    assert answer.status == 500
    assert b"init: the driver's capabilities returned None" in bytes(answer.body)  # type: ignore[arg-type]
    handler.close()


def test_the_naive_differ_opens_no_path_that_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    box = TarBox()
    box.get = lambda *_: "a"  # type: ignore[method-assign]
    with pytest.raises(GraphDriverError, match=r"the driver's get returned 'a' \(str\)"):
        NaiveDiffDriver(box).diff("a", "")


# --- under containerd -----------------------------------------------------------------------------


class Namer(TarBox):
    """Offers what a snapshotter asks for besides; returns the values that the test chose."""

    named: Any = (Mount("bind", "/a", ("ro",)),)
    used: Any = Usage(1, 1)

    def mounts(self, id: str, *, read_only: bool) -> Any:
        return self.named

    def usage(self, id: str) -> Any:
        return self.used


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[Snapshots]:
    found = Snapshots(Namer(), str(tmp_path / "root"), ["sync=none"])
    yield found
    found.close()


@pytest.mark.root
@pytest.mark.parametrize(
    "named",
    [
        None,
        "bind",
        7,
        ["bind"],
        [None],
        [Mount("bind", "/a", "ro")],  # type: ignore[arg-type]
        [Mount("bind", None, ())],  # type: ignore[arg-type]
        [Mount("bind", "/a", (1,))],  # type: ignore[arg-type]
    ],
)
def test_containerd_gets_no_mounts_that_are_none(
    snapshots: Snapshots, named: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Namer, "named", named)
    with pytest.raises(GraphDriverError, match="the driver's mounts returned "):
        snapshots.prepare("key", "", {})


@pytest.mark.root
@pytest.mark.parametrize("used", [None, 7, (1, 1), Usage(-1, 1), Usage(1, 1.0), Usage("1", 1)])  # type: ignore[arg-type]
def test_containerd_gets_no_usage_that_is_none(
    snapshots: Snapshots, used: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots.prepare("key", "", {})
    monkeypatch.setattr(Namer, "used", used)
    with pytest.raises(GraphDriverError, match="the driver's usage returned "):
        snapshots.usage("key")
