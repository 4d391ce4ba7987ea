"""Changes are written while the driver finds them, and refused whole when they are too many."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from graphdriver.driver import Change, ChangeKind
from graphdriver.errors import RemoteError
from tests.support.plugin import Plugin

LIMIT = "graphdriver.docker.codec.MOST_CHANGES_SIZE"


def change(number: int) -> Change:
    return Change(f"/{number}", ChangeKind.ADDED)


@pytest.fixture
def ready(ready: Plugin) -> Plugin:
    with ready.client() as client:
        client.create("a", "", "", {})
    return ready


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_a_driver_may_find_them_while_they_are_asked_for(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(ready.box, "changes", lambda *_: (change(n) for n in range(count)))
    with ready.client() as client:
        assert client.changes("a", "") == tuple(change(n) for n in range(count))


def test_the_layer_is_the_calls_own_until_the_last_one_is_found(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def changes(_id: str, _parent: str) -> Iterator[Change]:
        yield change(1)
        begun.set()
        assert may_end.wait(60)
        order.append("found")

    def put(_id: str) -> None:
        order.append("put")

    monkeypatch.setattr(ready.box, "changes", changes)
    monkeypatch.setattr(ready.box, "put", put)
    with ready.client() as one, ready.client() as other:
        asking = threading.Thread(target=one.changes, args=("a", ""))
        asking.start()
        assert begun.wait(60)
        putting = threading.Thread(target=other.put, args=("a",))
        putting.start()
        putting.join(0.2)
        may_end.set()
        for thread in (asking, putting):
            thread.join()
    assert order == ["found", "put"]


def test_an_answer_that_is_too_long_is_an_error_and_nothing_of_it_is_sent(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def changes(_id: str, _parent: str) -> Iterator[Change]:
        for number in itertools.count():
            asked.append(number)
            yield change(number)

    monkeypatch.setattr(LIMIT, 1 << 20)
    monkeypatch.setattr(ready.box, "changes", changes)
    with ready.client() as client:
        with pytest.raises(RemoteError) as caught:
            client.changes("a", "")
        assert caught.value.status == 500
        assert str(caught.value).startswith("changes a: the list of changes is over 1 MiB; ")
        assert len(asked) < 1 << 16
        monkeypatch.setattr(ready.box, "changes", lambda *_: [change(1)])
        assert client.changes("a", "") == (change(1),)


def test_what_fails_on_the_way_is_an_error_and_no_short_list(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changes(_id: str, _parent: str) -> Iterator[Change]:
        yield change(1)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ready.box, "changes", changes)
    with (
        ready.client() as client,
        pytest.raises(RemoteError, match="changes a: the filesystem or its disk"),
    ):
        client.changes("a", "")
