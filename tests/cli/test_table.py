"""Tables: widths, and cells that are cut or escaped."""

from __future__ import annotations

import pytest

from graphdriver.cli.table import Column, Tone, Toned, cut, lay_out, tone_of, toned_printable

COLUMNS = [Column("NAME", shrinks=True), Column("SIZE", right=True), Column("FOR", shrinks=True)]


def shown(rows: list[list[str]], width: int | None = None) -> list[str]:
    return ["  ".join(cells) for cells in lay_out(COLUMNS, rows, width)]


def test_columns_are_as_wide_as_their_cells() -> None:
    assert shown([["a", "1", "x"], ["long name", "1000", "y"]]) == [
        "NAME       SIZE  FOR",
        "a             1  x",
        "long name  1000  y",
    ]


def test_cells_are_cut_in_the_middle_where_the_table_is_too_wide() -> None:
    rows = [["abcdefghijklmnopqrst", "1", "0123456789012345"]]
    heading, row = shown(rows, 30)
    assert row == "abcde…pqrst     1  01234…12345"
    assert len(row) == 30
    assert len(heading) <= 30


def test_no_cell_becomes_narrower_than_it_can_be_read() -> None:
    row = shown([["a" * 50, "1", "b" * 50]], 10)[1]
    assert row == "aaaa…aaa     1  bbbb…bbb"


def test_columns_of_numbers_are_never_cut() -> None:
    row = shown([["a" * 50, "123456789", "x"]], 20)[1]
    assert "123456789" in row


@pytest.mark.parametrize("text", ["", "a", "short"])
def test_what_fits_is_not_cut(text: str) -> None:
    assert cut(text, 5) == text


def test_a_list_is_cut_at_its_end() -> None:
    assert cut("one, two, three", 10) == "one, two,…"


def test_wide_characters_take_two_columns() -> None:
    assert cut("中文字符集", 6, lambda text: 2 * len(text.replace("…", "")) + text.count("…")) == (
        "中…集"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("\x9b31m", "\\x9b31m"),
        ("\x00", "\\x00"),
        ("größe 中文", "größe 中文"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, escaped: str) -> None:
    assert toned_printable(text) == escaped
    assert shown([[text, "", ""]])[1].startswith(escaped)


def test_a_text_keeps_its_tone_when_it_is_escaped_or_cut() -> None:
    text = Toned("\x1b" + "x" * 20, Tone.BAD)
    assert tone_of(toned_printable(text)) is Tone.BAD
    assert tone_of(cut(text, 5)) is Tone.BAD
    assert tone_of("plain") is Tone.PLAIN
