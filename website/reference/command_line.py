"""The page of the command line: every command with every option."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from graphdriver.cli import main
from graphdriver.cli.command import CODES_HELP, Command
from website.reference.markdown import block, code, docstring, plain, table

_WIDTH = 96


def page() -> str:
    """Return the page."""
    return "\n".join(_pieces())


def _pieces() -> Iterator[str]:
    yield "# Command line\n"
    yield "Each command shows the same with `--help`. [Exit codes](#exit-codes) are at the end.\n"
    parser = main.make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for title, group in main.GROUPS.items():
        yield f"{title[0].upper()}{title[1:]}:\n"
        yield table(
            ("command", "what it does"),
            ((f"[{code(one.name)}](#{one.name})", plain(one.summary)) for one in group),
        )
    for command in main.COMMANDS:
        yield from _command(command, commands.choices[command.name])
    yield "## Exit codes\n"
    rows = (line.split(maxsplit=1) for line in CODES_HELP.splitlines()[1:])
    yield table(("code", "meaning"), ((code(number), plain(text)) for number, text in rows))


def _command(command: Command, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {command.name}\n"
    yield f"{plain(command.summary[0].upper() + command.summary[1:])}.\n"
    lines = command.examples.splitlines()[1:]  # the first one says that these are examples
    yield block("\n".join(line.removeprefix("  ") for line in lines))
    yield block(_usage(parser))
    for group in parser._action_groups:
        rows = [
            (_written(action), plain(_help(action, parser)))
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        ]
        yield table((_title(group), "meaning"), rows)
    yield docstring(plain(command.notes))


def _title(group: argparse._ArgumentGroup) -> str:
    return (
        (group.title or "").replace("positional arguments", "argument").replace("options", "option")
    )


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=_WIDTH)  # not as wide as this terminal
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help()


def _written(action: argparse.Action) -> str:
    """Return an option as a user writes it."""
    if action.choices is not None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    else:
        value = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return code(value)
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(code(f"{option}{takes}") for option in action.option_strings)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return parser._get_formatter()._expand_help(action)
