"""Pages and files of the repository that stand outside of docs/, and the links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

PAGES: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""They have their place in the root of the repository, where people look for them."""

EXAMPLES: Final = "examples.md"
"""The page that shows the files below examples/."""

_NOT_IN_SEARCH: Final = "---\nsearch:\n  exclude: true\n---\n"
"""Nearly every word is somewhere in a whole program."""

_LINK: Final = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
_CODE: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    """Return the text of a page in the root of the repository, with the links that the site has."""
    return with_links_of_the_site((ROOT / name).read_text(), at=name)


def with_links_of_the_site(text: str, at: str) -> str:
    """Return a page whose links lead to pages of the site instead of files of the repository.

    Args:
        text: the page.
        at: its path in the repository; links are relative to its directory.
    """

    def in_site(link: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(at), link[1]))
        above = posixpath.dirname(at.removeprefix("docs/"))
        if file.startswith("examples/"):
            return posixpath.relpath(EXAMPLES, above or ".") + "#" + anchor(file)
        return posixpath.relpath(file.removeprefix("docs/"), above or ".") + (link[2] or "")

    pieces = []
    end = 0
    for block in [*_CODE.finditer(text), None]:
        prose = text[end : block.start() if block else None]
        pieces += [_LINK.sub(in_site, prose), block[0] if block else ""]
        end = block.end() if block else end
    return "".join(pieces)


def examples() -> str:
    """Return the page of all files below examples/: a section for each file and each directory."""
    pieces = [
        "---\nsearch:\n  exclude: true\n---\n\n# Examples\n"
    ]  # whole programs are in every result
    for path in sorted((ROOT / "examples").iterdir()):
        name = str(path.relative_to(ROOT))
        if path.is_dir():
            files = sorted(path.glob("*.mjs"))
            pieces.append(f"## {name} {{ #{anchor(name)} }}\n")
            pieces += [f"### {file.name}\n\n{_shown(file, 'javascript')}" for file in files]
        elif path.suffix == ".py":
            pieces.append(f"## {name} {{ #{anchor(name)} }}\n\n{_shown(path, 'python')}")
    return "\n".join(pieces)


def anchor(example: str) -> str:
    """Return the anchor that a file or a directory below examples/ has on their page."""
    return example.replace("/", "-").replace(".", "-")


def _shown(file: Path, language: str) -> str:
    return f"```{language}\n{file.read_text()}```\n"
