"""Sizes, counts and times as people read them."""

from __future__ import annotations

from datetime import datetime

import pytest

from graphdriver.cli import quantities


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234, "1.23kB"),
        (12345, "12.3kB"),
        (999_499, "999kB"),
        (999_500, "1MB"),
        (123_456_789, "123MB"),
        (5 * 10**12, "5TB"),
        (10**21, "1000EB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert quantities.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 µs"),
        (0.00002, "20 µs"),
        (0.0123, "12.3 ms"),
        (0.5, "500 ms"),
        (1.25, "1.2 s"),
        (59.7, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (100_000, "1 d 3 h"),
        (-5, "0 µs"),
    ],
)
def test_periods(seconds: float | None, text: str) -> None:
    assert quantities.period(seconds) == text


@pytest.mark.parametrize(
    ("then", "text"),
    [(None, "-"), (1000, "now"), (2000, "now"), (940, "1 min ago"), (-200_000, "2 d ago")],
)
def test_how_long_ago(then: float | None, text: str) -> None:
    assert quantities.ago(then, 1000) == text


@pytest.mark.parametrize(
    ("some", "whole", "text"), [(0, 0, "-"), (1, 3, "33%"), (999, 1000, "99%"), (5, 5, "100%")]
)
def test_parts(some: int, whole: int, text: str) -> None:
    assert quantities.part(some, whole) == text


def test_times_are_those_of_rfc_3339() -> None:
    assert quantities.moment(0.5) == "1970-01-01T00:00:00.500Z"
    assert quantities.moment(None) is None


@pytest.mark.parametrize("text", [f"2026-11-25T03:15:49.{ms:03}Z" for ms in range(0, 1000, 7)])
def test_a_time_that_was_read_is_shown_as_it_was_written(text: str) -> None:
    assert quantities.moment(datetime.fromisoformat(text).timestamp()) == text


def test_several() -> None:
    assert [quantities.several(count, "layer") for count in (0, 1, 1000)] == [
        "0 layers",
        "1 layer",
        "1,000 layers",
    ]
