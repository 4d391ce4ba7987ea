"""``graphdriver new``: write the project of a new driver, which works."""

from __future__ import annotations

import argparse
from typing import Final

from graphdriver.cli.command import OK, Command

_EXAMPLES = """\
examples:
  graphdriver new mydriver
  cd mydriver && pip install --editable '.[dev]'
  pytest
  graphdriver serve mydriver -v
"""

_NOTES = """\
The driver keeps each layer as a copy of its parent. It is complete, and its comments say what each
method must do and may rely on. NAME becomes the driver's name. Install it with the pip of the
environment in which graphdriver is.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the driver's name, in lower case")
    parser.add_argument(
        "--output", metavar="DIR", help="the directory to make (default: NAME, in this one)"
    )


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.drivers.new_project import write_project

    output = arguments.output or arguments.name
    module = write_project(arguments.name, output)
    print(f"{output}: read README.md next; the driver is in {module}.py")
    return OK


COMMAND: Final = Command(
    name="new",
    summary="write the project of a new driver",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
