"""What the library is given by mistake is refused at once, by a text that says what to give."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from graphdriver import Handler, Server, UnixListener, serve
from tests.support.tarbox import TarBox


@pytest.mark.parametrize("what", [TarBox, object(), None, "vfs"])
def test_a_handler_takes_a_driver_that_is_made(what: object) -> None:
    with pytest.raises(
        TypeError, match="a driver must be an object of a class that extends ProtoDriver, not "
    ):
        Handler(what)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a driver must be an object of a class"):
        serve(what)  # type: ignore[arg-type]


@pytest.mark.parametrize("several", [False, True])
def test_a_server_takes_one_listener_or_several(several: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        path = str(Path(folder) / "p.sock")
        listener = UnixListener(path)
        with (
            Server(Handler(TarBox()), [listener] if several else listener),
            socket.socket(socket.AF_UNIX) as caller,
        ):
            caller.connect(path)
        assert not Path(path).exists()


@pytest.mark.parametrize("listeners", ["/run/p.sock", ["/run/p.sock"], None, [None], 7])
def test_a_server_takes_nothing_else(listeners: object) -> None:
    with pytest.raises(TypeError, match=r"takes listeners, not .*make one with UnixListener"):
        Server(Handler(TarBox()), listeners)  # type: ignore[arg-type]


def test_what_nobody_could_reach_is_not_served() -> None:
    with pytest.raises(TypeError, match="serve takes at least one listener"):
        serve(TarBox())
    with pytest.raises(TypeError, match="takes listeners, not "):
        serve(TarBox(), "/run/p.sock")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", [TarBox(), TarBox, None])
def test_a_server_takes_a_handler(what: object) -> None:
    with pytest.raises(TypeError, match=r"Server takes a Handler, not .*Handler\(driver\)"):
        Server(what, [])  # type: ignore[arg-type]
