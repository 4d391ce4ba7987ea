"""Pages and progress on a terminal, with rich and without."""

from __future__ import annotations

import builtins
import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from graphdriver.cli import screen
from graphdriver.cli.screen import Page, Tone, Toned

EITHER = pytest.mark.parametrize("has_rich", [True, False])


class Screen(io.StringIO):
    """A terminal's file."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def progress_of_three() -> Iterator[tuple[Screen, Callable[[int], None]]]:
    """Work in three steps, for the length of a ``with`` block, with stderr on a terminal."""
    shown = Screen()
    with contextlib.redirect_stderr(shown), screen.progress("walking", 3) as done:
        yield shown, done


def leave_out_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    own: Callable[..., Any] = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)


def test_short_work_shows_no_progress() -> None:
    with progress_of_three() as (shown, done):
        for _ in range(3):
            done(1)
    assert shown.getvalue() == ""


@EITHER
def test_long_work_shows_its_progress_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, has_rich: bool
) -> None:
    if not has_rich:
        leave_out_rich(monkeypatch)
    monkeypatch.setattr(screen, "_PATIENCE", 0.0)
    monkeypatch.setattr(screen, "_PAUSE", 0.0)
    with progress_of_three() as (shown, done):
        for _ in range(3):
            done(1)
    text = shown.getvalue()
    assert "walking" in text
    assert ("3 of 3" in text) is not has_rich
    assert "\x1b[2K" in text or text.endswith("\r\x1b[K"), "the line is erased"


def test_work_that_fails_leaves_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_rich(monkeypatch)
    monkeypatch.setattr(screen, "_PATIENCE", 0.0)
    with pytest.raises(KeyboardInterrupt), progress_of_three() as (shown, done):
        done(1)
        raise KeyboardInterrupt
    assert shown.getvalue().endswith("\r\x1b[K")


def test_a_pipe_gets_no_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "_PATIENCE", 0.0)
    with screen.progress("walking", 1) as done:
        done(1)
    assert capsys.readouterr().err == ""


def test_a_line_that_does_not_fit_is_broken_between_words() -> None:
    page = Page(width=12)
    page.line(Toned("name", Tone.HEADING), "  ", "a verdict of some words")
    assert page.text().splitlines() == ["name", "a verdict of", "some words"]


def test_a_path_in_a_line_is_left_whole() -> None:
    page = Page(width=12)
    page.line("see /a/path/that/is/long now")
    assert page.text().splitlines() == ["see", "/a/path/that/is/long", "now"]


def test_values_stand_below_each_other_and_lists_are_broken() -> None:
    page = Page(width=20)
    page.pairs([("a", "1"), ("longer", "one, two, three, four, five, six, seven")])
    assert page.text().splitlines() == [
        "a       1",
        "longer  one, two,",
        "        three, four,",
        "        five, six, …",
    ]


def test_a_value_that_is_to_be_copied_is_left_whole() -> None:
    page = Page(width=20)
    page.pairs([("path", "/a/path/with/more/than/twenty"), ("all", "x" * 100)], whole=True)
    path, long = page.text().splitlines()
    assert path == "path  /a/path/with/more/than/twenty"
    assert len(long) == len("all   ") + 3 * 14


def test_as_many_rows_as_fit_the_screen_are_shown_and_one_line_is_left_for_a_note() -> None:
    page = Page(width=20, height=10)
    page.line("one")
    assert list(page.fitting(range(7), spare=2)) == [*range(7)]
    assert list(page.fitting(range(8), spare=2)) == [*range(6)]
    assert list(page.fitting(range(8), spare=20)) == [0]
    assert list(Page().fitting(range(100), spare=2)) == [*range(100)]
