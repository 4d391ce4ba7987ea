"""What a command of the command line is.

Each command is one file that ends by making its `Command`; `graphdriver.cli.main` has the one list
of them. The rules for such a file:

- Its module imports nothing slow: the whole list is imported whichever command was asked for, and
  ``serve`` must have bound its socket before anything else costs time. What a command needs besides
  is imported by its ``run``.
- ``run`` returns an exit code, or raises: an error of `graphdriver.errors` is shown in one line and
  turned into an exit code by `graphdriver.cli.exit_codes`. Wrong usage is a
  `graphdriver.errors.MalformedRequestError`.
- What the user asked for goes to stdout, all else to stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One command: ``graphdriver NAME …``.

    Attributes:
        name: what the user types.
        summary: one line for the list of commands.
        examples: shown below its ``--help``.
        configure: adds its arguments to its own parser.
        run: does it, given the parsed arguments; returns the exit code.
    """

    name: str
    summary: str
    examples: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def key_value(text: str) -> str:
    """Check an argument of the form ``KEY=VALUE``.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    key, equals, _ = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return text
