"""Leaving tars in a store, where it cannot begin."""

from __future__ import annotations

import threading

import pytest

from graphdriver import Handler
from graphdriver.drivers.loading import make


@pytest.mark.parametrize("name", ["in place", "left in place"])
def test_a_handler_whose_threads_cannot_start_leaves_none(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    before = set(threading.enumerate())
    monkeypatch.setattr(threading.Thread, "start", started)
    with pytest.raises(RuntimeError, match="new thread"):
        Handler(make("erofs"), in_place="/store")
    left = [one for one in threading.enumerate() if one not in before]
    for one in left:
        one.join(60)
    assert [one.name for one in left if one.is_alive()] == []
