"""``graphdriver serve``: serve a driver to a Docker daemon until SIGTERM, SIGINT or SIGQUIT.

The socket is bound before anything slow is imported: a daemon that starts a plugin connects to it half
a second later. So this module imports almost nothing, and `run` binds as soon as it knows the name.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from graphdriver.cli import places, watching
from graphdriver.cli.command import OK, Command
from graphdriver.cli.known_homes import DATA_ROOT
from graphdriver.cli.serving import (
    ServedDriver,
    configure_driver,
    configure_log,
    configure_options,
    driver_of,
    run_logged,
    set_up_log,
)
from graphdriver.errors import MalformedRequestError
from graphdriver.serving import process
from graphdriver.serving.signals import raise_until_served

if TYPE_CHECKING:
    from graphdriver.serving.notify import Notifier

_EXAMPLES = """\
examples:
  graphdriver serve                                 the best driver for /var/lib/docker, as py-DRIVER
  graphdriver serve vfs --name mine -v              vfs as the plugin "mine"; log every call
  graphdriver serve my_package.drivers:Mine         your own driver
  graphdriver serve vfs --socket /srv/vfs.sock --group docker
  graphdriver serve vfs --tcp 127.0.0.1:2377        TCP, open to every process of this machine
"""

_NOTES = """\
A daemon finds a plugin outside of /run/docker/plugins by a file in /etc/docker/plugins; serve writes
that file, and removes it at its end. If systemd passes a socket, that one is served.
SIGUSR1 writes the stacks of all threads to the log.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    configure_driver(parser)
    places.configure(parser)
    configure_options(parser, "; the daemon's options take precedence")
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="the daemon's data root: the best driver for it is chosen, and a driver that does not work"
        f" there is refused (default: {DATA_ROOT}, for which a driver that does not work is a warning)",
    )
    parser.add_argument(
        "--shared",
        metavar="DIR",
        help="a directory with layers of all nodes (graphdriver share), with --in-place",
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="leave the tars of layers that are in the directory of --shared there, and read them there"
        " each time; for stores that are mounted and trusted, with the driver erofs",
    )
    watching.configure(parser)
    configure_log(parser)


def _run(arguments: argparse.Namespace) -> int:
    return run_logged(arguments, _run_plugin)


def _run_plugin(arguments: argparse.Namespace) -> int:
    if arguments.in_place != bool(arguments.shared):
        # A daemon sends each layer anyway: a store can only spare the space.
        raise MalformedRequestError("--shared DIR and --in-place need each other")
    if "://" in (arguments.shared or ""):
        raise MalformedRequestError(
            "--in-place needs a store that is a directory", hint="give its path"
        )
    process.prepare()
    # A signal during the imports must end them, and still remove the socket.
    raise_until_served()
    inherited, notifier = None, None
    if "LISTEN_PID" in os.environ or "NOTIFY_SOCKET" in os.environ:
        from graphdriver.docker.address.systemd import inherited_socket
        from graphdriver.serving.notify import Notifier

        inherited, notifier = inherited_socket(), Notifier.wanted()
    driver = driver_of(arguments, _data_root(arguments))
    place = places.open_place(arguments, inherited, lambda: f"py-{_plain_name(driver.name)}")
    try:
        return _serve(arguments, place, notifier, driver)
    finally:
        place.listener.close()


def _serve(
    arguments: argparse.Namespace,
    place: places.Place,
    notifier: Notifier | None,
    driver: ServedDriver,
) -> int:
    set_up_log(arguments)

    from graphdriver.docker.handler import Handler
    from graphdriver.docker.serve import run
    from graphdriver.docker.state import is_remembered, make_state_directory
    from graphdriver.drivers.choice import check_driver
    from graphdriver.drivers.loading import load, make
    from graphdriver.serving.options import split_framework_options
    from graphdriver.serving.privileges import give_up_privileges

    def announce() -> None:
        print(f"serving {driver} on {place}")
        print(_how_to_use(place.name, _data_root(arguments)))
        sys.stdout.flush()

    cls = load(driver.name)
    give_up_privileges(cls)
    check_driver(cls, split_framework_options(arguments.opt).driver)
    state_dir = make_state_directory(place.state)
    if arguments.driver and (arguments.data_root or not is_remembered(state_dir)):
        _look_at_home(driver.name, arguments.data_root)
    handler = Handler(
        make(driver.name),
        state_dir=state_dir,
        options=arguments.opt,
        in_place=os.path.abspath(arguments.shared) if arguments.in_place else "",
    )
    is_read_by_people = not (notifier or place.is_inherited or arguments.log_format == "json")
    with place.announced(), watching.watched(arguments, handler.served):
        run(handler, [place.listener], notifier, announce if is_read_by_people else lambda: None)
    return OK


def _look_at_home(driver: str, data_root: str | None) -> None:
    """Refuse a driver that does not work on the given data root; warn about the default one."""
    import logging

    from graphdriver.drivers.choice import probe_driver
    from graphdriver.drivers.loading import load
    from graphdriver.errors import GraphDriverError, UnsupportedError

    log = logging.getLogger(__name__)
    try:
        probe_driver(load(driver), os.path.abspath(data_root or DATA_ROOT))
    except UnsupportedError as error:
        if data_root:
            raise
        log.warning(
            "%s does not work on a daemon's default data root %s: %s", driver, DATA_ROOT, error
        )
    except GraphDriverError as error:
        log.warning("cannot tell whether %s works on %s: %s", driver, data_root or DATA_ROOT, error)


def _data_root(arguments: argparse.Namespace) -> str:
    return os.path.abspath(arguments.data_root or DATA_ROOT)


def _how_to_use(name: str, data_root: str) -> str:
    import shlex

    root = "" if data_root == DATA_ROOT else f" --data-root {shlex.quote(data_root)}"
    command = f"dockerd --experimental{root} -s {name}"
    lines = [
        "start the daemon on it:",
        f"  {command}",
        "  with Docker 27:",
        f"  DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS=1 {command}",
    ]
    return "\n".join(lines)


def _plain_name(driver: str) -> str:
    """Return a driver's name; for ``module:Class`` it is the class's ``driver_name``."""
    if ":" not in driver and "/" not in driver:  # load() refuses a path, and explains it
        return driver
    from graphdriver.drivers.loading import load

    cls = load(driver)
    return cls.driver_name or cls.__name__.lower()


COMMAND: Final = Command(
    name="serve",
    summary="serve a driver to Docker",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
