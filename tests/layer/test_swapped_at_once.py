"""What stands in a name's place right after something was made there gets none of its metadata.

The window is too short for a race to be seen in it every time, so the swap is made in the very call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import GraphDriverError
from tests.layer.conftest import Layer


def replaced_after(monkeypatch: pytest.MonkeyPatch, call: str, replace: Callable[[], None]) -> None:
    """Let somebody replace what a call of `os` has just made."""
    make = getattr(os, call)

    def made(*arguments: Any, **more: Any) -> None:
        make(*arguments, **more)
        replace()

    monkeypatch.setattr(f"graphdriver.layer.write.inode.os.{call}", made)


def test_a_folder_that_became_a_link_is_not_entered(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixture sees that the canary is neither opened nor changed."""
    place = Path(os.fsdecode(layer.path("d")))

    def replace() -> None:
        place.rmdir()
        place.symlink_to("../canary")

    replaced_after(monkeypatch, "mkdir", replace)
    with pytest.raises(GraphDriverError, match="'d'"):
        layer.unpack(tars.tar(tars.directory(b"d", mode=0o777, uid=666)))
    monkeypatch.undo()


def test_a_fifo_that_became_something_else_gives_it_nothing(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(os.fsdecode(layer.path("p")))

    def replace() -> None:
        place.unlink()
        place.touch(0o600)

    replaced_after(monkeypatch, "mkfifo", replace)
    with pytest.raises(GraphDriverError, match="replaced by another process"):
        layer.unpack(tars.tar(tars.header(b"p", b"6", mode=0o4777, uid=666)))
    monkeypatch.undo()
    assert (layer.stat("p").st_mode & 0o7777, layer.stat("p").st_uid) == (0o600, 0)
