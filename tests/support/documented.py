"""The examples of the documentation, for the tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md"]

_FENCE = re.compile(
    r"(?:^<!-- (?:run by (\S+)|not run: ([^\n]+)) -->\n)?^```(\w*)\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of code in a page.

    Attributes:
        page: the path of the page.
        language: what stands behind the fence.
        text: the code.
        run_by: the file that runs it, if it is not `tests.cli.test_documented_examples`; from a comment
            above it, which the reader does not see: ``<!-- run by tests/… -->``.
        not_run: why nothing runs it: ``<!-- not run: … -->``.
    """

    page: str
    language: str
    text: str
    run_by: str = ""
    not_run: str = ""

    @property
    def first_line(self) -> str:
        """Name it among the blocks of all pages."""
        return self.text.splitlines()[0]


def pages() -> dict[str, str]:
    """Return the text of each page of the documentation, by its path."""
    found = sorted(path for page in PAGES for path in ROOT.glob(page))
    return {str(path.relative_to(ROOT)): path.read_text() for path in found}


def blocks() -> list[Block]:
    """Return all blocks of code."""
    return [
        Block(page, language, code, run_by, not_run)
        for page, text in pages().items()
        for run_by, not_run, language, code in _FENCE.findall(text)
    ]


def block(page: str, language: str, holding: str) -> str:
    """Return the one block of code in a page that holds these words."""
    (found,) = [
        one.text
        for one in blocks()
        if (one.page, one.language) == (page, language) and holding in one.text
    ]
    return found
