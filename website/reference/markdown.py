"""Texts of the source as Markdown: help texts, docstrings, tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

_SPECIAL = re.compile(r"([\\`*_<>\[\]|#])")


def plain(text: str) -> str:
    """Return a text that is shown as it is written."""
    return _SPECIAL.sub(r"\\\1", text)


def code(text: str) -> str:
    """Return a text as code within a line."""
    return f"`{text}`"


def block(text: str, language: str = "text") -> str:
    """Return a text as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already; without a row, nothing."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines, ""])


def docstring(text: str) -> str:
    """Return a docstring, or the notes of a command, as Markdown.

    What stands between double backquotes becomes code. Indented lines become the definition of the line
    above them, or after ``::`` a block of code.
    """
    lines = re.sub(r"``(.+?)``", r"`\1`", text).splitlines()
    return "\n".join(_blocks(lines)) + "\n"


def _blocks(lines: Sequence[str]) -> Iterator[str]:
    above = ""
    for is_indented, group in groupby(lines, lambda line: line.startswith("    ")):
        part = list(group)
        if not is_indented:
            yield from (line.replace("::", ":") if line.endswith("::") else line for line in part)
            above = "\n".join(part).rstrip()
        elif above.endswith("::"):
            yield block("\n".join(line[4:] for line in part))
        else:
            yield f":   {part[0][4:]}"
            yield from part[1:]
