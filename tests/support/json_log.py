"""The log of this process as ``--log-format json`` writes it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

from graphdriver.serving import logs


class JSONLines:
    """The lines that were logged so far."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def of(self, message: str) -> list[dict[str, Any]]:
        """Return the lines with a message."""
        found = [json.loads(line) for line in self.text.getvalue().splitlines()]
        return [line for line in found if line["message"] == message]


@contextlib.contextmanager
def json_lines() -> Iterator[JSONLines]:
    """Collect the lines that are logged in a ``with`` block, from INFO on."""
    found = JSONLines()
    handler = logging.StreamHandler(found.text)
    handler.setFormatter(logs.FORMATTERS["json"]())
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield found
    root.setLevel(before)
    root.removeHandler(handler)
