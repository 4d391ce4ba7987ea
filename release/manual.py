"""The man pages: ``python -m release.manual DIRECTORY`` writes one for each command, and an overview.

They say what ``--help`` says. argparse-manpage is no choice: it fills the examples into paragraphs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import graphdriver
from graphdriver.cli import main
from graphdriver.cli.command import Command
from release import command_line
from release.command_line import Argument

_WIDTH = 72
_CHARACTERS = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}


def pages() -> dict[str, str]:
    """Return all man pages: their files' names, and what they hold."""
    of = command_line.parsers()
    found = {"graphdriver.1": "\n".join([*_overview(main.make_parser()), ""])}
    for command in main.COMMANDS:
        lines = _command(command, of[command.name])
        found[f"graphdriver-{command.name}.1"] = "\n".join([*lines, ""])
    return found


def _overview(parser: argparse.ArgumentParser) -> Iterator[str]:
    description, _, examples = (parser.description or "").partition("\n\nexamples:\n")
    examples, _, last = examples.partition("\n\n")
    yield from _head("graphdriver", "container storage drivers for Docker and containerd")
    yield ".SH SYNOPSIS"
    yield _plain("graphdriver [-h] [--version] COMMAND ...")
    yield ".SH DESCRIPTION"
    yield _plain(description)
    yield from _examples("\n".join(line.removeprefix("  ") for line in examples.splitlines()))
    yield ".SH COMMANDS"
    yield _plain(last.strip())
    for title, group in main.GROUPS.items():
        yield f".SS {_plain(title[0].upper() + title[1:])}"
        for command in group:
            yield from _term(_reference(command.name), command.summary)
    yield from _exit_status()


def _command(command: Command, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from _head(f"graphdriver-{command.name}", command.summary)
    yield ".SH SYNOPSIS"
    yield from _as_it_is(command_line.usage(parser, _WIDTH))
    yield from _examples(command_line.examples(command))
    for title, arguments in command_line.groups(parser):
        yield f".SH {_plain(_title(title))}"
        for argument in arguments:
            yield from _term(_written(argument), argument.help)
    if command.notes:
        yield ".SH NOTES"
        yield from _paragraphs(command.notes)
    yield from _exit_status()
    yield ".SH SEE ALSO"
    yield _reference("")


def _head(name: str, summary: str) -> Iterator[str]:
    released = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(released))
    version = f"graphdriver {graphdriver.__version__}"
    yield f'.TH "{_plain(name.upper())}" 1 "{date}" "{_plain(version)}" "graphdriver"'
    yield ".ad l"
    yield ".SH NAME"
    yield rf"{_plain(name)} \- {_plain(summary)}"


def _title(title: str) -> str:
    return {"positional arguments": "ARGUMENTS"}.get(title, title.upper())


def _written(argument: Argument) -> str:
    value = rf"\fI{_plain(argument.value)}\fR"
    if not argument.options:
        return value
    takes = f" {value}" if argument.value else ""
    return ", ".join(rf"\fB{_plain(option)}\fR{takes}" for option in argument.options)


def _examples(text: str) -> Iterator[str]:
    yield ".SH EXAMPLES"
    yield from _as_it_is(text)


def _exit_status() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in command_line.exit_codes():
        yield from _term(code, meaning)


def _reference(command: str) -> str:
    name = f"graphdriver-{command}" if command else "graphdriver"
    return rf"\fB{_plain(name)}\fR(1)"


def _term(term: str, meaning: str) -> Iterator[str]:
    yield ".TP"
    yield term
    yield _plain(meaning)


def _paragraphs(text: str) -> Iterator[str]:
    yield "\n.PP\n".join(map(_plain, text.strip().split("\n\n")))


def _as_it_is(text: str) -> Iterator[str]:
    yield ".nf"
    yield _plain(text.strip("\n"))
    yield ".fi"


def _plain(text: str) -> str:
    """Return a text in which troff obeys no character, and changes none to a typographic one."""
    escaped = "".join(_CHARACTERS.get(one, one) for one in text)
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)


if __name__ == "__main__":
    for name, page in pages().items():
        (Path(sys.argv[1]) / name).write_text(page)
