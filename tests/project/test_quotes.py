"""What the documentation names and quotes is there: functions with their arguments, options, errors."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import pytest

from graphdriver.cli import main
from tests.support.documented import ROOT, pages

SOURCES = sorted([*(ROOT / "src").rglob("*.py"), ROOT / "tests/support/long.py"])
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.DOTALL)


def spans() -> Iterator[tuple[str, str]]:
    """Yield each page and what stands in backquotes in its text and its tables."""
    for page, text in pages().items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for span in SPAN.findall(prose):
            yield page, " ".join(span.replace("\\|", "|").split())


# --- modules, what is in them, and files ----------------------------------------------------------


def names(pattern: str) -> list[tuple[str, str]]:
    return sorted(
        {(page, found) for page, text in pages().items() for found in re.findall(pattern, text)}
    )


@pytest.mark.parametrize(("page", "name"), names(r"`(graphdriver(?:\.\w+)+)`"))
def test_a_name_in_python_is_there(page: str, name: str) -> None:
    parts = name.split(".")
    found: object = importlib.import_module(parts[0])
    for at, part in enumerate(parts[1:], 2):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(".".join(parts[:at]))
        found = getattr(found, part)


@pytest.mark.parametrize(
    ("page", "path"), names(r"[`(]((?:\.\./)?(?:src|docs|tests|examples)/[\w./-]+)")
)
def test_a_file_that_is_named_is_there(page: str, path: str) -> None:
    assert (ROOT / path.removeprefix("../")).exists()


# --- functions and their arguments ----------------------------------------------------------------


@cache
def arguments() -> dict[str, set[str]]:
    """Return the arguments of all functions, methods and dataclasses, by their names."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                found[node.name] |= {one.arg for one in every}
            elif isinstance(node, ast.ClassDef):
                for part in node.body:
                    match part:
                        case ast.AnnAssign(target=ast.Name(id=name)):
                            found[node.name].add(name)
                        case ast.FunctionDef(name="__init__", args=args):
                            found[node.name] |= {one.arg for one in (*args.args, *args.kwonlyargs)}
    return found


def wrong_call(span: str) -> str:
    """Return what is wrong with a call as it is written; nothing if all is right or it is no call."""
    text = span.removeprefix("def ").replace("…", "...").replace("self, ", "")
    try:
        node = ast.parse(text.replace("=...", "=None"), mode="eval").body
    except SyntaxError:
        return ""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)):
        return ""
    name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
    if name in OTHERS_CALLS or not text.endswith(")"):
        return ""
    if name not in arguments():
        return f"{name} is gone"
    given = {one.id for one in node.args if isinstance(one, ast.Name) and one.id.islower()}
    given |= {str(one.arg) for one in node.keywords}
    return ", ".join(f"{name} has no {one}" for one in sorted(given - arguments()[name]))


OTHERS_CALLS = {"NewNaiveDiffDriver", "NewHandler", "ServeUnix", "ServeTCP", "NewErrorResponse"}
"""Of Docker's Go packages."""


def test_a_call_that_is_shown_is_one_with_these_arguments() -> None:
    wrong = {(page, span): wrong_call(span) for page, span in spans()}
    assert not {where: what for where, what in wrong.items() if what}


def test_a_call_that_is_gone_would_be_seen() -> None:
    assert wrong_call("no_such_thing(id)") == "no_such_thing is gone"
    assert wrong_call("mounts(id, no_such=…)") == "mounts has no no_such"
    assert wrong_call("mounts(id, read_only=…)") == ""


# --- options --------------------------------------------------------------------------------------

OTHERS_OPTIONS = {
    "ctr": {"--uidmap", "--gidmap", "--remap-labels"},
    "docker": {"--all", "--force", "--privileged", "--rm", "--size", "--storage-opt"},
    "dockerd": {"--experimental", "--storage-opt", "--userns-remap"},
    "pytest": {"--record"},
    "systemctl": {"--now"},
    "unshare": {"--user"},
    "COPY": {"--link"},
    "RUN": {"--mount"},
}
"""By the program, or the instruction of a Dockerfile, that a span begins with."""


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return all options of a command and of the commands below it."""
    found = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= options(below)
    return found


def is_option(option: str, span: str) -> bool:
    """Tell whether an option is one of ours, or of the program that a span begins with."""
    program = span.split(maxsplit=1)[0]
    if (ROOT / program).is_file():
        return f'"{option}"' in (ROOT / program).read_text()
    return option in options(main.make_parser()) | OTHERS_OPTIONS.get(program, set())


def test_an_option_that_is_named_is_one() -> None:
    gone = {
        (page, option)
        for page, span in spans()
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", span)
        if not is_option(option, span)
    }
    assert not gone
    assert not is_option("--flying", "graphdriver serve --flying")


# --- errors ---------------------------------------------------------------------------------------

VALUE = re.compile(r"…|'[^']*'|\S*\d\S*|\S*/\S*|; ")
"""What is another word in each error, and what stands between an error and its hint."""


@cache
def said() -> str:
    """Return all strings of ours; each is in one piece, but for the values that are put into it."""
    found = []
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.JoinedStr(values=values):
                    texts = [one.value for one in values if isinstance(one, ast.Constant)]
                    found.append("\0".join(map(str, texts)))
                case ast.Constant(value=str(text)):
                    found.append(text)
    return "\n".join(found)


def errors() -> Iterator[tuple[str, str]]:
    """Yield each page and the errors that it quotes: in tables of them, and whole sentences."""
    for page, text in pages().items():
        is_table = False
        for line in text.splitlines():
            is_table = line.startswith("| error |") or (is_table and line.startswith("|"))
            if is_table:
                yield from ((page, span) for span in SPAN.findall(line.split(" | ")[0]))
    for page, span in spans():
        if "; " in span and len(span.split()) > 4 and not span.startswith(("graphdriver ", "def ")):
            yield page, span


def unsaid(error: str) -> list[str]:
    """Return the pieces of an error between its values that stand in no string of ours."""
    pieces = (piece.strip(" ,:()") for piece in VALUE.split(error))
    return [piece for piece in pieces if piece not in said()]


def test_an_error_that_is_quoted_is_raised_somewhere() -> None:
    quoted = sorted({*errors()})
    assert len(quoted) > 10
    gone = {(page, error): unsaid(error) for page, error in quoted if unsaid(error)}
    assert not gone, "quote errors as they are now, with … for each value"
