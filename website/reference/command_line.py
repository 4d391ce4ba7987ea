"""The page of the command line: every command with every option."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from graphdriver.cli import main
from graphdriver.cli.command import Command
from release import command_line
from release.command_line import Argument
from website.reference.markdown import block, code, docstring, plain, table

_WIDTH = 96


def page() -> str:
    """Return the page."""
    return "\n".join(_pieces())


def _pieces() -> Iterator[str]:
    yield "# Command line\n"
    yield "Each command shows the same with `--help`. [Exit codes](#exit-codes) are at the end.\n"
    for title, group in main.GROUPS.items():
        yield f"{title[0].upper()}{title[1:]}:\n"
        yield table(
            ("command", "what it does"),
            ((f"[{code(one.name)}](#{one.name})", plain(one.summary)) for one in group),
        )
    parsers = command_line.parsers()
    for command in main.COMMANDS:
        yield from _command(command, parsers[command.name])
    yield "## Exit codes\n"
    rows = ((code(number), plain(meaning)) for number, meaning in command_line.exit_codes())
    yield table(("code", "meaning"), rows)


def _command(command: Command, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {command.name}\n"
    yield f"{plain(command.summary[0].upper() + command.summary[1:])}.\n"
    yield block(command_line.examples(command))
    yield block(command_line.usage(parser, _WIDTH))
    for title, arguments in command_line.groups(parser):
        rows = [
            (_written(one), plain(one.help)) for one in arguments if "--help" not in one.options
        ]
        yield table((_title(title), "meaning"), rows)
    yield docstring(plain(command.notes))


def _title(title: str) -> str:
    return title.replace("positional arguments", "argument").replace("options", "option")


def _written(argument: Argument) -> str:
    """Return an argument or an option as a user writes it."""
    if not argument.options:
        return code(argument.value)
    return ", ".join(code(f"{option} {argument.value}".rstrip()) for option in argument.options)
