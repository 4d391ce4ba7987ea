"""Pages that a reader follows from top to bottom: what is typed, and what is printed then."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support.documented import Block, blocks


@dataclass(frozen=True)
class Command:
    """A command whose output a page shows."""

    text: str
    shown: str


@dataclass(frozen=True)
class Method:
    """A method that the reader adds to a class."""

    text: str


def steps(page: str) -> Sequence[str | Command | Method]:
    """Return what a page has its reader do, in order: commands, and methods in Python."""
    found: list[str | Command | Method] = []
    for one in blocks():
        if one.page != page or one.not_run:
            continue
        if one.language == "sh":
            found.append(one.text)
        elif one.language == "python":
            found.append(Method(one.text))
        elif one.language == "console":
            found += commands(one)
    return found


def commands(shown: Block) -> Iterator[Command]:
    for one in re.split(r"^\$ ", shown.text, flags=re.MULTILINE)[1:]:
        text, _, output = one.partition("\n")
        yield Command(text, output)


def is_as_shown(shown: str, said: str) -> bool:
    """Compare an output with a page, where … stands for anything, also for lines."""
    pattern = re.escape(shown.rstrip()).replace("…", ".*")
    return bool(re.fullmatch(pattern, said.rstrip(), re.DOTALL))
