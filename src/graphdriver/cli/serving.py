"""The common parts of the commands that serve a driver: options, choice of the driver, log."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from graphdriver.cli.command import FAILED, OK, exit_code, key_value
from graphdriver.errors import GraphDriverError
from graphdriver.serving.signals import StoppedError


def configure_driver(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the driver."""
    parser.add_argument(
        "driver",
        nargs="?",
        metavar="DRIVER",
        help="an installed driver, or module:Class, also from the current directory (default: the"
        " best driver that works here)",
    )


def configure_options(parser: argparse.ArgumentParser, precedence: str = "") -> None:
    """Add the driver's own options."""
    parser.add_argument(
        "--opt",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help=f"an option for the driver; may be repeated{precedence}",
    )


def configure_log(parser: argparse.ArgumentParser) -> None:
    """Add the options of the log."""
    parser.add_argument("-v", "--verbose", action="store_true", help="log every call")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="default: %(default)s"
    )


class ServedDriver(NamedTuple):
    """The driver to serve; ``reason`` is empty if the user named it."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


def driver_of(arguments: argparse.Namespace, home: str) -> ServedDriver:
    """Return the driver that the user named, or the best one for a home.

    Raises:
        UnsupportedError: no driver works there.
    """
    if arguments.driver is None:
        from graphdriver.drivers.choice import choose

        found = choose(home)
        return ServedDriver(found.name, found.reason)
    if ":" in arguments.driver:
        # At the end, so that no file there is taken for a module of the standard library.
        sys.path.append(os.getcwd())
    return ServedDriver(arguments.driver)


def set_up_log(arguments: argparse.Namespace) -> None:
    """Set up the log, and write the stacks of all threads to it at SIGUSR1."""
    from graphdriver.serving import logs
    from graphdriver.serving.signals import dump_stacks_on_signal

    logs.set_up(verbose=arguments.verbose, form=arguments.log_format)
    dump_stacks_on_signal(arguments.log_format)


def run_logged(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """Run a command that serves; with a JSON log, log the error that ends it instead of raising it."""
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
