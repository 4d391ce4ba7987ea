"""The command line in words, from its parser: what the man pages and the site's page show of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphdriver.cli import main
from graphdriver.cli.command import CODES_HELP, Command


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command, or an option.

    Attributes:
        options: an option's names; empty for an argument.
        value: the word that stands for its value; ``""`` if it takes none.
        help: what it means.
    """

    options: tuple[str, ...]
    value: str
    help: str


def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each command, by its name."""
    parser = main.make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    found: Mapping[str, argparse.ArgumentParser] = commands.choices
    return found


def usage(parser: argparse.ArgumentParser, width: int) -> str:
    """Return how a command is used.

    Args:
        parser: the command's.
        width: the longest line, in characters: not that of this terminal.
    """
    formatter = argparse.HelpFormatter(parser.prog, width=width)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help()


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[Argument]]]:
    """Yield the groups of a command's arguments with their titles, without those that are not shown."""
    for group in parser._action_groups:
        found = [
            _argument(action, parser)
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS
        ]
        if found:
            yield group.title or "", found


def _argument(action: argparse.Action, parser: argparse.ArgumentParser) -> Argument:
    if action.option_strings and action.nargs == 0:
        value = ""
    elif action.choices is not None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    else:
        value = str(action.metavar or action.dest.upper())
    help = parser._get_formatter()._expand_help(action)
    return Argument(tuple(action.option_strings), value, help)


def examples(command: Command) -> str:
    """Return a command's examples as they are typed."""
    lines = command.examples.splitlines()[1:]  # the first one says that these are examples
    return "\n".join(line.removeprefix("  ") for line in lines)


def exit_codes() -> Iterator[tuple[str, str]]:
    """Yield each exit code with its meaning."""
    for line in CODES_HELP.splitlines()[1:]:
        code, meaning = line.split(maxsplit=1)
        yield code, meaning
