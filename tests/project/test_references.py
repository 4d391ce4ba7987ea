"""What docstrings and comments refer to is there."""

from __future__ import annotations

import ast
import builtins
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.documented import ROOT

FILES = sorted(
    file
    for above in ("src", "tests", "examples", "benchmarks")
    for file in (ROOT / above).rglob("*.py")
    if not file.name.endswith("_pb2.py")
)
REFERENCE = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)")
"""Single backquotes are for names of ours; double ones for whatever is shown as it is written."""

MODULE = re.compile(r"\b(?:tests|graphdriver)(?:\.\w+)+")
A_FILE = re.compile(r"\b(?:docs|src|tests|examples|benchmarks)/[\w./-]*\w")
A_PAGE = re.compile(r"(?<![\w/.-])[\w-]+\.md\b")
OTHERS = {"layer.md", "config.md", "docs/PLUGINS.md", "docs/cri/config.md"}
"""Pages of the OCI's image-spec and of containerd."""


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def known() -> set[str]:
    """Return every name that anything of ours has, and those of Python's own modules."""
    found = {*dir(builtins), *sys.stdlib_module_names, "graphdriver", "tests"}
    for file in FILES:
        found |= {*file.relative_to(ROOT).with_suffix("").parts}
        for node in ast.walk(tree(file)):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    found.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.keyword(arg=str(name)):
                    found.add(name)
                case ast.alias(name=name):
                    found |= {*name.split(".")}
    return found


def texts(file: Path) -> Iterator[str]:
    """Yield each docstring of a file, of its attributes too, and each comment."""
    for node in ast.walk(tree(file)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def gone(text: str) -> set[str]:
    """Return what a text refers to and is not there."""
    names = {
        name for name in REFERENCE.findall(text) if not {*name.strip(".").split(".")} <= known()
    }
    modules = {name for name in MODULE.findall(text) if _is_gone(name)}
    files = {file for file in A_FILE.findall(text) if not (ROOT / file).exists()}
    pages = {
        page
        for page in A_PAGE.findall(text)
        if not (ROOT / page).exists() and not (ROOT / "docs" / page).exists()
    }
    return (names | modules | files | pages) - OTHERS


def _is_gone(name: str) -> bool:
    """Tell whether a dotted name leads to no module, nor to anything in one."""
    package, *parts = name.split(".")
    at = ROOT / package if package == "tests" else ROOT / "src" / package
    for part in parts:
        if at.with_suffix(".py").exists() and not at.is_dir():
            return part not in known()  # a name in a module
        at /= part
        if not at.is_dir() and not at.with_suffix(".py").exists():
            return part not in known()
    return False


def test_what_a_docstring_or_a_comment_refers_to_is_there() -> None:
    found = {
        str(file.relative_to(ROOT)): sorted(missing)
        for file in FILES
        if (missing := {name for text in texts(file) for name in gone(text)})
    }
    assert not found


def test_what_is_gone_would_be_seen() -> None:
    for text in (
        "see `no_such_thing`",
        "as `Handler.no_such_thing` does",
        "see `graphdriver.no_such_module.thing`",
        "run by tests.no_such_package",
        "see tests/no_such_file.py",
        "as docs/no-such-page.md says",
        "(no-such-page.md says why)",
    ):
        assert gone(text), text
    for text in ("see `Handler.resume`", "``no_such_thing``", "tests.support.long", "layers.md"):
        assert not gone(text), text
