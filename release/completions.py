"""The completion of the command line for shells: ``python -m release.completions SHELL``.

shtab writes it. It shows the whole description of each command, and completes only what has a type.
So in the parser that it gets a description is one line, and names of files and drivers have types.
"""

from __future__ import annotations

import argparse
import sys

import shtab

from graphdriver.cli.main import COMMANDS
from graphdriver.drivers.loading import available

_TYPES = {
    "DIR": shtab.DIRECTORY,
    "DATA-ROOT": shtab.DIRECTORY,
    "HOME": shtab.DIRECTORY,
    "FILE": shtab.FILE,
    "PATH": shtab.FILE,
    "SOCKET": shtab.FILE,
}
"""What is completed for an argument, by the word that stands for it in ``--help``."""


def completion(shell: str) -> str:
    """Return the script that a shell reads.

    Args:
        shell: one of ``shtab.SUPPORTED_SHELLS``.
    """
    parser = argparse.ArgumentParser(prog="graphdriver")
    parser.add_argument("--version", action="version", help="show the version and exit")
    commands = parser.add_subparsers(dest="command")
    for command in COMMANDS:
        one = commands.add_parser(
            command.name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        command.configure(one)
        for action in one._actions:
            if action.metavar == "DRIVER":
                action.choices = tuple(available())
            elif action.metavar in _TYPES:
                action.complete = _TYPES[action.metavar]  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


if __name__ == "__main__":
    print(completion(sys.argv[1]))
