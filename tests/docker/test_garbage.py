"""A call that fails is gone when it is over, with its buffers: nothing waits for a garbage collection.

An error holds the frames that it went through, and these hold their variables. Where one of them holds
the error again, all of it, the connection and its buffers too, stays until a collection comes by, which
on a busy plugin may be hours.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator

import pytest

from graphdriver.conformance.plugin import wire
from tests.docker.conftest import connections
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until


def an_unknown_layer(plugin: Plugin) -> None:
    with plugin.wire() as daemon:
        assert daemon.ask(wire.call("Get", ID="nobody")).status == 500


def a_body_that_breaks_off(plugin: Plugin) -> None:
    with plugin.wire() as daemon:
        assert daemon.ask(wire.call("Create", ID="a")).status == 200
        daemon.send(wire.apply_head("a") + b"200\r\nhalf")


def a_request_that_is_none(plugin: Plugin) -> None:
    assert b"400" in plugin.raw(b"nonsense\r\n\r\n")


def a_call_that_a_web_page_makes(plugin: Plugin) -> None:
    assert b"400" in plugin.raw(wire.head("/GraphDriver.Status", "Origin: http://x"))


def a_diff_that_nobody_reads(plugin: Plugin) -> None:
    with plugin.wire() as daemon:
        assert daemon.ask(wire.call("Create", ID="b")).status == 200
        assert daemon.ask(wire.apply("b", bytes(8 << 20))).status == 200
        daemon.send(wire.call("Diff", ID="b"))


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Let nothing be collected while a test runs, and nothing be kept: pytest keeps what is logged."""
    gc.disable()
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize(
    "fail",
    [
        an_unknown_layer,
        a_body_that_breaks_off,
        a_request_that_is_none,
        a_call_that_a_web_page_makes,
        a_diff_that_nobody_reads,
    ],
)
def test_a_call_that_failed_leaves_no_garbage(
    ready: Plugin, fail: Callable[[Plugin], None]
) -> None:
    wait_until(lambda: connections() == 0)
    gc.collect()
    fail(ready)
    wait_until(lambda: connections() == 0)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    ours = sorted(
        {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("graphdriver")}
    )
    assert ours == []
