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
from graphdriver.cli.command import CODES_HELP, Command

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
    parser = main.make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    found = {"graphdriver.1": "\n".join([*_overview(parser), ""])}
    for command in main.COMMANDS:
        lines = _command(command, commands.choices[command.name])
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
    yield from _examples(examples)
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
    yield from _as_it_is(_usage(parser))
    yield from _examples(command.examples.partition("\n")[2])
    for group in parser._action_groups:
        shown = [one for one in group._group_actions if one.help is not argparse.SUPPRESS]
        if shown:
            yield f".SH {_plain(_title(group.title or ''))}"
        for action in shown:
            yield from _term(_written(action), parser._get_formatter()._expand_help(action))
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


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=_WIDTH)  # not as wide as this terminal
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help()


def _title(title: str) -> str:
    return {"positional arguments": "ARGUMENTS"}.get(title, title.upper())


def _written(action: argparse.Action) -> str:
    if action.choices is not None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    else:
        value = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return rf"\fI{_plain(value)}\fR"
    takes = "" if action.nargs == 0 else rf" \fI{_plain(value)}\fR"
    return ", ".join(rf"\fB{_plain(option)}\fR{takes}" for option in action.option_strings)


def _examples(text: str) -> Iterator[str]:
    yield ".SH EXAMPLES"
    yield from _as_it_is("\n".join(line.removeprefix("  ") for line in text.splitlines()))


def _exit_status() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for line in CODES_HELP.splitlines()[1:]:
        number, meaning = line.split(maxsplit=1)
        yield from _term(number, meaning)


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
