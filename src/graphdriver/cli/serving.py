"""What the commands that serve a driver have in common: their options, and how errors end them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from graphdriver.cli.command import key_value
from graphdriver.cli.exit_codes import FAILED, OK, exit_code
from graphdriver.errors import GraphDriverError
from graphdriver.serving.signals import StoppedError


def configure_driver(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says which driver is served."""
    parser.add_argument(
        "driver",
        nargs="?",
        metavar="DRIVER",
        help="an installed driver, or module:Class, found in the current folder too (default: the"
        " best one that works here)",
    )


def configure_log(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is logged, and how."""
    parser.add_argument("-v", "--verbose", action="store_true", help="log every call")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="default: %(default)s"
    )


def configure_options(parser: argparse.ArgumentParser, when: str = "") -> None:
    """Add the driver's own options."""
    parser.add_argument(
        "--opt",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help=f"an option for the driver{when}; may be repeated",
    )


def run_logged(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """Run a command that serves; what ends it is a line of the log where machines read that."""
    try:
        return run(arguments)
    except StoppedError:
        return OK
    except BrokenPipeError:
        raise
    except Exception as error:
        if arguments.log_format == "text":
            raise
        import logging

        from graphdriver.serving import logs

        logs.set_up(verbose=arguments.verbose, form=arguments.log_format)
        expected = isinstance(error, GraphDriverError | OSError)
        logging.getLogger(__name__).critical("%s", error, exc_info=None if expected else error)
        return exit_code(error) if isinstance(error, GraphDriverError) else FAILED
