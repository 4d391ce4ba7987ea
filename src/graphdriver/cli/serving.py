"""What the commands that serve a driver have in common: their options, and the process they run in."""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable

from graphdriver.cli.command import key_value
from graphdriver.cli.exit_codes import FAILED, exit_code
from graphdriver.errors import GraphDriverError, UnsupportedError


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
    if arguments.log_format == "text":
        return run(arguments)
    try:
        return run(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        import logging

        from graphdriver.cli import logs

        logs.set_up(verbose=arguments.verbose, form=arguments.log_format)
        expected = isinstance(error, GraphDriverError | OSError)
        logging.getLogger(__name__).critical("%s", error, exc_info=None if expected else error)
        return exit_code(error) if isinstance(error, GraphDriverError) else FAILED


def prepare_process() -> None:
    """Make this process one that can keep layers.

    Raises:
        UnsupportedError: it is not root's.
    """
    if os.geteuid() != 0:
        raise UnsupportedError(
            "layers have owners, devices and mounts of their own, which only root can make",
            hint="run it as root",
        )
    os.umask(0)
    # A diff may have a folder open for each layer below, and daemons ask for many at once.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
