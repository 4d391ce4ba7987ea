"""A command of the command line, and the exit codes of all of them.

Each command is one file that ends with its `Command`; `graphdriver.cli.main` has the list of them. The
rules for such a file:

- It imports nothing slow at its top: every run imports all commands, and ``serve`` must bind its socket
  before anything else takes time. ``run`` imports what it needs.
- ``run`` returns an exit code, or raises. An error of `graphdriver.errors` is shown in one line, and
  its kind decides the exit code. Wrong usage is a `graphdriver.errors.MalformedRequestError`.
- Only the requested output goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from graphdriver.errors import GraphDriverError, Kind, UnsupportedError


@dataclass(frozen=True, slots=True)
class Command:
    """One command: ``graphdriver NAME …``.

    Attributes:
        name: what the user types.
        summary: one line for the list of commands.
        examples: shown first in its ``--help``.
        notes: shown after its options.
        configure: adds its arguments to its own parser.
        run: runs it with the parsed arguments; returns the exit code.
    """

    name: str
    summary: str
    examples: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    notes: str = ""


def key_value(text: str) -> str:
    """Return an argument of the form ``KEY=VALUE`` as it is.

    Raises:
        argparse.ArgumentTypeError: it has another form.
    """
    key, equals, _ = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return text


def needs_grpc(missing: ImportError) -> UnsupportedError:
    """Return the error of a command that needs gRPC, if the extra for containerd is not installed."""
    return UnsupportedError(
        f"a snapshotter speaks gRPC, and {missing.name} is not installed",
        hint="pip install 'graphdriver[containerd]'",
    )


OK: Final = 0
FAILED: Final = 1
WARNED: Final = 13
"""A check found something that will go wrong, or space that is lost."""
DAMAGED: Final = 14
"""A check found something that does not work, or lost content, and did not repair it."""
INTERRUPTED: Final = 130
"""As shells report SIGINT: 128 and the signal's number."""

CODES: Final = {
    Kind.FAILED: FAILED,
    Kind.MALFORMED: 2,  # argparse exits with this code after wrong usage
    Kind.NOT_FOUND: 3,
    Kind.EXISTS: 4,
    Kind.IN_USE: 5,
    Kind.UNFINISHED: 6,
    Kind.DAMAGED: DAMAGED,
    Kind.UNSUPPORTED: 7,
    Kind.UNKNOWN_CALL: 7,
    Kind.WRONG_METHOD: 7,
    Kind.NOT_READY: 8,
    Kind.BAD_ARCHIVE: 9,
    Kind.BROKEN_STREAM: 10,
    Kind.UNREACHABLE: 11,
    Kind.TOO_LARGE: 12,
}
"""The exit code of each kind of error; `CODES_HELP` explains them."""

CODES_HELP: Final = """\
exit codes:
  0    done
  1    the call failed; plugins report only a message, so there is no finer code
  2    wrong usage, or a request that breaks the protocol's rules
  3    the layer does not exist
  4    the layer exists already
  5    the socket, the home or the layer is in use by somebody else
  6    the layer is incomplete: its transfer did not finish
  7    this driver, filesystem, kernel or plugin cannot do it
  8    the plugin is not initialised: no daemon has sent Init
  9    a layer's tar is damaged or hostile
  10   a stream broke off
  11   the plugin does not answer
  12   a request over the plugin's limits
  13   a check found something that will go wrong later, or lost space
  14   a check found damage, or something that does not work; the layer is damaged
  130  interrupted
"""


def exit_code(error: GraphDriverError) -> int:
    """Return the exit code for an error."""
    return CODES[error.kind]
