"""What the commands that look are pointed at: a running plugin, a home, or both.

A plugin or snapshotter of this project answers questions on its own socket, and its home is read too if
it is on this machine. A plugin of another author answers Docker's calls only. A home that no process
serves is read; so is the home that a plugin served before it stopped, if it is remembered.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import needs_grpc
from graphdriver.cli.known_homes import (
    CONTAINERD_ROOT,
    DATA_ROOT,
    daemon_of,
    homes_in,
    remembered,
)
from graphdriver.errors import (
    BadAnswerError,
    GraphDriverError,
    MalformedRequestError,
    RemoteError,
    UnreachableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from graphdriver.care.home_layers import HomeLayers
    from graphdriver.cli.answers import Status
    from graphdriver.docker.address.discovery import Address
    from graphdriver.docker.client import Client

PATIENCE: Final = 10.0
"""How long an answer may take, in seconds."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a plugin or a home."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--plugin", metavar="NAME", help="a running plugin, found as a daemon finds it"
    )
    where.add_argument(
        "--socket",
        metavar="PATH",
        help="a running plugin or snapshotter: its socket, or tcp://HOST:PORT",
    )
    where.add_argument("--home", metavar="DIR", help="a directory with layers, served or not")


def configure_home(parser: argparse.ArgumentParser) -> None:
    """Add the argument of the commands that take a home, for `home_of`."""
    parser.add_argument(
        "home",
        nargs="?",
        metavar="HOME",
        help="the directory that a plugin or a snapshotter serves, such as DATA-ROOT/PLUGIN"
        " (default: the only one of this machine)",
    )


def home_of(arguments: argparse.Namespace) -> str:
    """Return the home that is named, or else that of the only plugin, or else the only home.

    No plugin is asked: systemd would start one that was stopped.

    Raises:
        MalformedRequestError: nothing is named, and there are several homes, or none.
    """
    if arguments.home is not None:
        named: str = arguments.home
        return named
    plugins, homes = list(_plugins()), _homes()
    if len(plugins) == 1 and (home := _remembered_home(plugins[0])):
        return home
    if len(homes) == 1:
        return homes[0]
    raise _not_one(homes, "homes", "name the directory that the plugin serves")


@dataclass(frozen=True, slots=True)
class Target:
    """What a command looks at.

    Attributes:
        name: how people call it: a plugin's name, a socket, a home.
        address: where the plugin listens; ``""`` if none runs.
        home: the home, if it is on this machine; otherwise ``""``.
        status: what the plugin answered about itself; None if none answers questions.
        ask: asks it a question; returns its answer.
        client: a plugin that answers Docker's calls, and may know no questions.
        trouble: why no plugin answers although one should; ``""``: all is well.
    """

    name: str
    address: str = ""
    home: str = ""
    status: Status | None = None
    ask: Callable[[str], object] | None = None
    client: Client | None = None
    trouble: str = ""

    @property
    def is_foreign(self) -> bool:
        """Whether a plugin answers that knows no questions."""
        return self.client is not None and self.status is None

    def layers(self) -> HomeLayers:
        """Return all that is known of the layers.

        Raises:
            UnsupportedError: a plugin of another author serves them.
            OSError: the home cannot be read.
        """
        from graphdriver.care.home_layers import HomeLayers, read_home_layers
        from graphdriver.care.layer_tree import LayerTree
        from graphdriver.cli.answers import read_layers

        if self.is_foreign:
            raise no_questions(self)
        told = read_layers(self.ask("layers")) if self.ask else []
        if self.home:
            return read_home_layers(self.home, told)
        notes = ("its home is not on this machine: shown is only what the plugin knows",)
        return HomeLayers("", None, LayerTree.of(told), None, notes)


def no_questions(target: Target) -> UnsupportedError:
    """Return the error for what only a plugin of this project can tell."""
    return UnsupportedError(
        f"the plugin at {target.address} does not answer questions: it is another author's, or older",
        hint=f'"graphdriver status --socket {target.address}" shows what it tells through Docker\'s'
        " calls",
    )


@contextlib.contextmanager
def target_of(arguments: argparse.Namespace) -> Iterator[Target]:
    """Find what the options of `configure` name, for the length of a ``with`` block.

    Raises:
        MalformedRequestError: nothing is named, and there are several plugins and homes, or none.
        UnreachableError: the plugin does not answer, and its home is not known.
    """
    if arguments.plugin is not None:
        found = _plugin(arguments.plugin)
    elif arguments.socket is not None:
        found = _socket(arguments.socket)
    elif arguments.home is not None:
        found = _home(os.path.abspath(arguments.home))
    else:
        found = _only_one()
    try:
        yield found
    finally:
        if found.client:
            found.client.close()


# --- by name and by socket ------------------------------------------------------------------------


def _plugin(name: str) -> Target:
    from graphdriver.docker.address.discovery import find

    try:
        return _asked(name, find(name))
    except UnreachableError as error:
        home = _remembered_home(name)
        if not home:
            error.hint = "start it, or read its home with --home DIR"
            raise
        return Target(name, home=home, trouble=error.problem)


def _remembered_home(name: str) -> str:
    """Return the home that a plugin was told to serve by the last Init; ``""`` if it is not known.

    After a daemon has stopped it is not remembered, and is looked for at Docker's usual place.
    """
    daemon = daemon_of(name, remembered())
    if daemon and os.path.isdir(daemon.init.home):
        return daemon.init.home
    usual = os.path.join(DATA_ROOT, name)
    return usual if usual in homes_in(DATA_ROOT) else ""


def _socket(text: str) -> Target:
    from graphdriver.docker.address.discovery import Address

    if "://" not in text:
        text = os.path.abspath(text)
    return _asked(text, Address.parse(text))


def _asked(name: str, address: Address) -> Target:
    """Ask a plugin or a snapshotter for its status.

    Raises:
        UnreachableError: no process listens there, or no answer came.
    """
    import http.client

    from graphdriver.cli.answers import read_status
    from graphdriver.docker.client import Client

    where = address.path or str(address)
    client = Client(address, PATIENCE, by_hand=True)
    try:
        status = read_status(client.ask("status"))
    except (RemoteError, BadAnswerError):
        return Target(name, where, client=client)
    except UnreachableError as error:
        client.close()
        # A gRPC server breaks off a connection that does not begin as HTTP/2 does.
        broke_off = (http.client.HTTPException, ConnectionError)
        refused = (ConnectionRefusedError, FileNotFoundError)
        is_other = isinstance(error.__cause__, broke_off) and not isinstance(
            error.__cause__, refused
        )
        if address.path and is_other:
            return _snapshotter(name, address.path)
        raise
    except BaseException:
        client.close()
        raise
    home = _home_here(status)
    return Target(name, where, home, status, client.ask, client)


def _snapshotter(name: str, path: str) -> Target:
    from graphdriver.cli.answers import read_status

    try:
        from graphdriver.containerd.questions import ask
    except ImportError as error:
        raise needs_grpc(error) from error
    one = functools.partial(ask, path, timeout=PATIENCE)
    try:
        status = read_status(one("status"))
    except (RemoteError, BadAnswerError) as error:
        raise UnsupportedError(
            f"the snapshotter at {path} does not answer questions: it is another author's, or older",
            hint="ask containerd about it: ctr snapshots --snapshotter NAME tree",
        ) from error
    return Target(name, path, _home_here(status), status, one)


def _home_here(status: Status) -> str:
    """Return the home of a plugin that answered; ``""`` if it is not on this machine.

    A directory with the same path may be another machine's or container's home: the record of the
    process that serves it tells.
    """
    from graphdriver.serving.server_record import read_server

    with contextlib.suppress(OSError):
        server = read_server(status.home) if status.home else None
        if server and server.pid == status.pid:
            return status.home or ""
    return ""


# --- by home --------------------------------------------------------------------------------------


def _home(home: str) -> Target:
    """Find the plugin that serves a home; without one only the home is read."""
    from graphdriver.serving.home import servers_of
    from graphdriver.serving.server_record import read_server

    if not os.path.isdir(home):
        raise MalformedRequestError(f"--home {home} is not a directory")
    home = os.path.realpath(home)
    reasons: list[str] = []
    server = read_server(home)
    for address in server.addresses if server else ():
        try:
            found = _socket(address)
        except GraphDriverError as error:
            reasons.append(error.problem)
            continue
        if server and found.status and found.status.pid == server.pid:
            return replace(found, name=home, home=home)
        if found.client:
            found.client.close()
    holders = servers_of(home)
    if not holders:
        return Target(home, home=home)
    text = f"{', '.join(holders)} serves it, and does not answer"
    return Target(home, home=home, trouble=": ".join([text, *reasons[:1]]))


# --- by nothing -----------------------------------------------------------------------------------


def _only_one() -> Target:
    """Return the only plugin, or else the only home, that is at one of the usual places."""
    plugins, homes = list(_plugins()), _homes()
    if len(plugins) == 1:
        return _plugin(plugins[0])
    if not plugins and len(homes) == 1:
        return _home(homes[0])
    choices = [f"--plugin {name}" for name in plugins] + [f"--home {home}" for home in homes]
    raise _not_one(choices, "plugins and homes", "name one with --plugin, --socket or --home")


def _not_one(choices: Sequence[str], kind: str, naming: str) -> MalformedRequestError:
    if not choices:
        text = "no plugin and no home was found at the usual places"
        return MalformedRequestError(text, hint=naming)
    return MalformedRequestError(
        f"there are {len(choices)} {kind}", hint=f"choose one: {', '.join(choices)}"
    )


def _homes() -> list[str]:
    return [home for root in (DATA_ROOT, CONTAINERD_ROOT) for home in homes_in(root)]


def _plugins() -> Iterator[str]:
    """Yield the names of the plugins that have a socket where daemons look for it."""
    from graphdriver.docker.address.discovery import find
    from graphdriver.docker.address.listeners import PLUGIN_SOCKETS

    with contextlib.suppress(OSError):
        for file in sorted(os.listdir(PLUGIN_SOCKETS)):
            name = file.removesuffix(".sock")
            with contextlib.suppress(GraphDriverError, OSError):
                find(name)
                yield name
