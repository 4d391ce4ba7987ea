"""The command ``graphdriver``: the list of its commands, their help and their errors."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import graphdriver
from graphdriver.cli import (
    call,
    conform,
    doctor,
    drivers,
    du,
    fsck,
    gc,
    inspect,
    layers,
    migrate,
    new,
    package,
    record,
    serve,
    share,
    snapshotter,
    status,
    top,
    units,
)
from graphdriver.cli.command import CODES_HELP, FAILED, INTERRUPTED, Command, exit_code
from graphdriver.errors import GraphDriverError
from graphdriver.printable import printable

GROUPS: Final[Mapping[str, tuple[Command, ...]]] = {
    "serve a driver": (serve.COMMAND, snapshotter.COMMAND, units.COMMAND, drivers.COMMAND),
    "look at layers and calls": (
        status.COMMAND,
        top.COMMAND,
        layers.COMMAND,
        inspect.COMMAND,
        du.COMMAND,
    ),
    "find and repair faults": (doctor.COMMAND, fsck.COMMAND, gc.COMMAND),
    "move to another driver": (migrate.COMMAND,),
    "share layers between nodes": (share.COMMAND,),
    "try a plugin": (call.COMMAND, conform.COMMAND, record.COMMAND),
    "make a driver or a plugin": (new.COMMAND, package.COMMAND),
}
"""The commands by what they are for, in the order in which ``--help`` lists them."""

COMMANDS: Final = tuple(itertools.chain.from_iterable(GROUPS.values()))

_DESCRIPTION = """\
Keep the images and containers of Docker or containerd on a storage driver written in Python.

examples:
  graphdriver serve                            serve the best driver for this machine
  dockerd --experimental -s py-vfs             start a daemon on it (serve prints the exact line)
  graphdriver drivers                          show which drivers work here, and why others do not
  graphdriver status                           show what the plugin of this machine serves
  graphdriver layers                           show its layers, and what each belongs to
  graphdriver fsck /var/lib/docker/py-vfs      check all layers

The options of a command are shown by: graphdriver COMMAND --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name; those of the process if not given.

    Returns:
        The exit code.
    """
    arguments = make_parser().parse_args(argv)
    command: Command = arguments.command
    try:
        code = command.run(arguments)
        sys.stdout.flush()
    except GraphDriverError as error:
        _complain(command, str(error))
        return exit_code(error)
    except BrokenPipeError:
        # The reader of our output has closed it; Python would report that once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        from graphdriver.linux.resources import error_text

        where = f"{error.filename}: " if error.filename and error.strerror else ""
        _complain(command, f"{where}{error_text(error)}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _complain(command: Command, text: str) -> None:
    # A plugin's text and a file's name may hold control characters, which a terminal would obey.
    plain = printable(text, keep="\n")
    print(f"graphdriver {command.name}: {plain}", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line, from which man pages and completions are made, too."""
    parser = argparse.ArgumentParser(
        prog="graphdriver",
        usage="graphdriver [-h] [--version] COMMAND ...",
        description=_DESCRIPTION,
        epilog=CODES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {graphdriver.__version__}",
        help="show the version and exit",
    )
    # argparse can list commands in one group only: they are listed in the description instead.
    commands = parser.add_subparsers(
        title="commands",
        description="\n".join(_listed()),
        prog="graphdriver",
        metavar="COMMAND",
        help=argparse.SUPPRESS,
        required=True,
        parser_class=_CommandParser,
    )
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.\n\n{command.examples}",
            epilog=f"{command.notes}\n{CODES_HELP}".lstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.configure(one)
        one.set_defaults(command=command)
    return parser


def _listed() -> Iterator[str]:
    """Yield the lines that list the commands."""
    width = max(len(command.name) for command in COMMANDS)
    for title, group in GROUPS.items():
        yield f"{title}:"
        for command in group:
            yield f"  {command.name:<{width}}  {command.summary}"


class _CommandParser(argparse.ArgumentParser):
    """A parser that refuses unknown arguments with the command's own usage, not the whole program's."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown arguments: {' '.join(unknown)}")
        return found, unknown
