"""SECURITY.md: each test that it names is there, and each row of its tables is shown by a test."""

from __future__ import annotations

import ast
import re

from tests.support.documented import ROOT

TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
PAGE = (ROOT / "SECURITY.md").read_text()


def missing(text: str) -> list[str]:
    """Return the tests that a text names and that are not there."""
    gone = []
    for file, name in TEST.findall(text):
        path = ROOT / file
        tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if not name.startswith("test_") or name not in functions:
            gone.append(f"{file}::{name}")
    return gone


def rows() -> list[list[str]]:
    """Return the cells of each row of the tables that have a column for tests."""
    found, is_shown = [], False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            is_shown = False
        elif line.endswith("| shown by |"):
            is_shown = True
        elif is_shown and not line.startswith("| ---"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def test_each_test_that_the_threat_model_names_is_there() -> None:
    assert missing(PAGE) == []
    assert len(TEST.findall(PAGE)) > 50


def test_a_test_that_is_gone_would_be_seen() -> None:
    assert missing("`tests/docker/test_tls.py::test_no_such`") == [
        "tests/docker/test_tls.py::test_no_such"
    ]
    assert missing("`tests/no_such.py::test_a`") == ["tests/no_such.py::test_a"]
    assert missing("`tests/docker/test_tls.py`") == ["tests/docker/test_tls.py::"]


def test_whatever_stops_something_is_shown_by_a_test() -> None:
    unshown = [cells[0] for cells in rows() if not TEST.search(cells[-1])]
    assert unshown == ["TCP without TLS, on loopback"]  # which nothing stops
    assert len(rows()) > 40
