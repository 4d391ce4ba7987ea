"""The pages of the public names in Python, which mkdocstrings fills with their docstrings."""

from __future__ import annotations

import re
from typing import Final

import graphdriver
from website.repository import ROOT

_ROW: Final = re.compile(r"^\| ([a-z][^|]+) \| (`.+) \|$", re.MULTILINE)

_MODULES: Final = {
    "store": ("Directories of layers", "graphdriver.store"),
    "homes": ("Abilities of a driver's class", "graphdriver.homes"),
    "messages": ("Messages of the protocol", "graphdriver.docker.messages"),
    "subject": ("What the conformance kit checks", "graphdriver.conformance.plugin.subject"),
}
"""The modules that are public besides the package itself."""

_NAME: Final = re.compile(
    r"<(a|pre|h[1-6])\b.*?</\1>|<code>([A-Z][a-z]\w*[A-Z]\w*|[A-Z]{2}\w+)</code>", re.DOTALL
)
"""A name of two words or more, which is no word of the text, outside of links, code and headings."""


def pages() -> dict[str, str]:
    """Return the pages by their names: one for each row of the public names in docs/contract.md."""
    section = (ROOT / "docs/contract.md").read_text().partition("## Public names")[2]
    rows = _ROW.findall(section.partition("\n## ")[0])
    found = {}
    for subject, cell in rows:
        names = [name for name in re.findall(r"`(\w+)`", cell) if name != "__version__"]
        if not names:
            continue
        found[_file(subject)] = f"# {subject[0].upper()}{subject[1:]}\n\n" + "".join(
            f"::: graphdriver.{name}\n\n" for name in names
        )
    for file, (title, module) in _MODULES.items():
        found[file] = f"# {title}\n\n::: {module}\n    options: {{ show_root_heading: false }}\n"
    return found


def _file(subject: str) -> str:
    return re.sub(r"\W+", "-", subject)


def with_links(html: str) -> str:
    """Return the content of a page in which the public names are links."""

    def linked(found: re.Match[str]) -> str:
        name = found[2]
        if name not in graphdriver.__all__:
            return found[0]
        return f'<autoref identifier="graphdriver.{name}">{found[0]}</autoref>'

    return _NAME.sub(linked, html)
