"""A plugin that really listens, and ways to speak to it as a daemon does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from graphdriver import Server
from tests.support.plugin import Plugin, served


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    """A plugin that no daemon has said Init to."""
    with served() as plugin:
        yield plugin


@pytest.fixture
def ready(plugin: Plugin) -> Plugin:
    """A plugin after Init."""
    with plugin.client() as client:
        client.init(plugin.home, [], [], [])
    return plugin


@pytest.fixture
def post() -> Callable[..., bytes]:
    """Make the bytes of a call."""

    def make(path: str, body: bytes = b"", *headers: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: ", f"Content-Length: {len(body)}", *headers]
        return "\r\n".join([*lines, "", ""]).encode() + body

    return make


def connections() -> int:
    """Count the connections that are served in this process."""
    servers = [one for one in gc.get_objects() if type(one) is Server]
    return sum(len(one._connections) for one in servers)
