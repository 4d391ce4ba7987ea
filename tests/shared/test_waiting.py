"""A store that never answers: its calls are abandoned, and few threads are left of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from graphdriver.shared.layers import FoundLayer, SharedLayers
from graphdriver.shared.waiting import MOST_ABANDONED, Calls, Fetch
from tests.support.waiting import wait_until


class Hung:
    """A store, as its layers and as their tars, that answers nothing until it is told to."""

    def __init__(self) -> None:
        self.store = self
        self.address = "/mnt/hung"
        self.asked = 0
        self.begun = 0
        self.answers = threading.Event()
        self.closed = threading.Event()
        self.closed.set()

    def ask(self) -> int:
        self.asked += 1
        self.answers.wait()
        return self.asked

    def tar(self, _: object) -> Hung:
        return self

    def read(self, _: int) -> bytes:
        self.begun += 1
        if self.begun % 2:
            return b"first"
        self.ask()
        return b""

    def close(self) -> None:
        self.closed.wait()

    def fetch(self, calls: Calls) -> Fetch:
        return Fetch(cast(SharedLayers, self), cast(FoundLayer, None), calls)


@pytest.fixture
def hung() -> Iterator[Hung]:
    store = Hung()
    yield store
    store.answers.set()
    store.closed.set()
    wait_until(lambda: not threads())


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "shared"]


def test_a_store_that_never_answers_is_asked_a_few_times_only(hung: Hung) -> None:
    calls = Calls(hung.address)
    for _ in range(3 * MOST_ABANDONED):
        with pytest.raises(TimeoutError, match=r"no answer .*/mnt/hung"):
            calls.answer_within(0.01, hung.ask)
    assert len(threads()) == MOST_ABANDONED
    wait_until(lambda: hung.asked == MOST_ABANDONED)
    hung.answers.set()
    wait_until(lambda: not threads())
    assert calls.answer_within(20, hung.ask) == MOST_ABANDONED + 1


def test_layers_whose_next_bytes_never_come_count_as_well(hung: Hung) -> None:
    calls = Calls(hung.address)
    for _ in range(MOST_ABANDONED):
        with contextlib.closing(hung.fetch(calls)) as fetch:
            assert fetch.begins_within(20)
    with pytest.raises(TimeoutError, match=f"no answer to {MOST_ABANDONED} calls yet"):
        hung.fetch(calls)
    with pytest.raises(TimeoutError, match="see whether its mount or server hangs"):
        calls.answer_within(20, hung.ask)
    hung.answers.set()
    wait_until(lambda: not threads())
    with contextlib.closing(hung.fetch(calls)) as fetch:
        assert fetch.begins_within(20)


def test_layers_that_are_read_to_their_ends_do_not_count(hung: Hung) -> None:
    hung.answers.set()
    hung.closed.clear()  # many that end at the same time
    calls = Calls(hung.address)
    for _ in range(3 * MOST_ABANDONED):
        with contextlib.closing(hung.fetch(calls)) as fetch:
            assert fetch.begins_within(20)
            assert fetch.read(10) == b"first"
            assert fetch.read(10) == b""
