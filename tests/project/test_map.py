"""The map in CONTRIBUTING.md has a line for each package, whose docstring names each of its files."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.support.documented import ROOT, block

SOURCE = ROOT / "src" / "graphdriver"
TESTS = ROOT / "tests"


def drawn(above: str) -> set[str]:
    """Return what a map draws below a directory."""
    lines = block("CONTRIBUTING.md", "", f"{above}/\n").splitlines()[1:]
    assert all(len(line.split()) > 1 for line in lines), "each line says what is there"
    return {line.split(maxsplit=1)[0] for line in lines}


def packages(above: Path) -> Iterator[Path]:
    """Yield each directory that holds modules, however deep."""
    for init in sorted(above.rglob("__init__.py")):
        if init.parent != above:
            yield init.parent


def test_each_package_is_on_the_map() -> None:
    found = {f"{package.relative_to(SOURCE)}/" for package in packages(SOURCE)}
    files = {file.name for file in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert drawn("src/graphdriver") == found | files


def test_each_test_package_is_on_the_map() -> None:
    assert drawn("tests") == {f"{one.name}/" for one in packages(TESTS) if one.parent == TESTS}


def test_each_file_is_named_in_the_docstring_of_its_package() -> None:
    unnamed = {}
    for package in packages(SOURCE):
        if package.name == "cases":  # a group of cases each, which docs/conformance.md lists
            continue
        text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
        modules = {file.stem for file in package.glob("[!_]*.py")}
        inner = {one.name for one in packages(package) if one.parent == package}
        named = {name.rpartition(".")[2] for name in re.findall(r"(?<!`)`([\w.]+)`", text)}
        if missing := (modules | inner) - named:
            unnamed[str(package.relative_to(SOURCE))] = missing
    assert not unnamed, "add a line for each to the docstring of the package"


def test_every_test_is_run_by_the_gate() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    tested = {f"tests/{one.name}" for one in packages(TESTS) if one.parent == TESTS}
    elsewhere = {"tests/newer", "tests/support"}
    files = {f"tests/{file.name}" for file in TESTS.glob("test_*.py")}
    assert {*settings["testpaths"]} == (tested - elsewhere) | files
