"""Answers to questions that no plugin of this project gives."""

from __future__ import annotations

import json

import pytest

from graphdriver.cli.answers import read_calls, read_layers, read_status
from graphdriver.cli.layer_words import layer_json, running_text
from graphdriver.cli.quantities import period, size

NUMBERS = ["1" + "0" * 400, "1e400", "-1", "NaN", "true", "[]", '"1"']


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_that_none_can_be_is_unknown(number: str) -> None:
    found = json.loads(number)
    (call,) = read_calls([{"call": "Get", "seconds": found, "bytes": found}])
    assert running_text(call) == f"Get runs for {period(0)}"
    status = read_status({"bytes_in": found, "calls": {"Get": {"count": found, "p50_ms": found}}})
    assert (size(status.bytes_in), status.calls[0].count, status.calls[0].p50) == ("-", 0, None)


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "yesterday", ""]
)
def test_a_time_that_cannot_be_shown_is_unknown(time: str) -> None:
    (layer,) = read_layers([{"id": "a", "created": time}])
    assert layer_json(layer)["created"] is None
