"""The subjects of a run: a driver in this process, a plugin behind a socket, and a command."""

# ruff: noqa: D102 - documented in graphdriver.conformance.plugin.kit.Subject

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.homes import Homes
from graphdriver.conformance.kit.process import Process
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.plugin.kit import Kit, Subject
from graphdriver.conformance.plugin.wire import Wire, from_another_process
from graphdriver.docker.address.discovery import Address
from graphdriver.docker.client import Client
from graphdriver.driver import Driver, IDMap, ProtoDriver
from graphdriver.errors import GraphDriverError, UnreachableError
from graphdriver.naive import NaiveDiffDriver

ANSWER_IN = 60.0
"""Time limit for one response, in seconds."""

_HOME = "home: "
"""Prefix of the homes' names, with characters at which programs may split."""


class LocalSubject(Subject):
    """A driver in this process.

    Args:
        new: makes the driver.
        directory: a directory in which homes are made.
        retire: ends a driver: unmounts, and waits for its work in the background.
    """

    offers = frozenset({Need.HOMES})

    def __init__(
        self,
        new: Callable[[], ProtoDriver],
        directory: Path,
        retire: Callable[[ProtoDriver], None] = lambda driver: driver.cleanup(),
    ) -> None:
        self._new = new
        self._retire = retire
        with contextlib.ExitStack() as held:
            super().__init__(
                directory, str(held.enter_context(scratch_directory(directory, _HOME)))
            )
            self._driver = held.enter_context(self._one((), (), self.home))
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    @property
    def driver(self) -> Driver:
        return self._driver

    @contextlib.contextmanager
    def another(
        self, *, maps: Sequence[IDMap] = (), options: Sequence[str] = (), home: str = ""
    ) -> Iterator[Driver]:
        with (
            scratch_directory(self._directory, _HOME) as new,
            self.homes.admitted(home or str(new)),
            self._one(maps, options, home or str(new)) as driver,
        ):
            yield driver

    @contextlib.contextmanager
    def _one(self, maps: Sequence[IDMap], options: Sequence[str], home: str) -> Iterator[Driver]:
        os.makedirs(home, mode=0o710, exist_ok=True)  # as the handler does
        own = self._new()
        driver = own if isinstance(own, Driver) else NaiveDiffDriver(own)
        driver.init(home, options, maps, maps)
        try:
            yield driver
        finally:
            self._retire(own)


@contextlib.contextmanager
def _named(call: str) -> Iterator[None]:
    """Name the call in the plugin's error for the length of a ``with`` block."""
    try:
        yield
    except UnreachableError:
        raise
    except GraphDriverError as error:
        raise GraphDriverError(
            str(error).removeprefix(f"{call}: "),
            hint="no case runs before a plugin accepts Activate and Init",
            call=call,
        ) from error


class SocketSubject(Subject):
    """A plugin that runs already, and that no daemon uses.

    Args:
        address: where it listens.
        directory: a directory for the files of the cases.
        home: the home for the Init that is sent here.
        homes: where its layers may be, if that was known before it was started.
    """

    offers = frozenset({Need.SOCKET})

    def __init__(
        self, address: Address, directory: Path, home: str, homes: Homes | None = None
    ) -> None:
        super().__init__(directory, home, homes)
        self._address = address
        self._client = Client(address, ANSWER_IN)
        with _named("Activate"):
            self._client.activate()
        with _named("Init"):
            self._client.init(self.home, [], [], [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with (
            self._client,
            contextlib.suppress(GraphDriverError),
        ):  # a failing Cleanup has its own case
            self._client.cleanup()

    @property
    def driver(self) -> Driver:
        return self._client

    def wire(self) -> Wire:
        return Wire(self._address.path or (self._address.host, self._address.port))

    def another_daemon(self) -> contextlib.AbstractContextManager[Wire]:
        return from_another_process(self._address.path) if self._address.path else self.wire()

    def pid(self) -> int:
        """Ask the kernel which process listens (SO_PEERCRED, unix(7)); over TCP it is unknown."""
        if not self._address.path:
            return 0
        with self.wire() as wire:
            found = wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("iII", found)[0])


class ExecSubject(Subject):
    """A command that starts a plugin; the plugin is ours to kill.

    Args:
        command: as for `Process`.
        directory: a directory for the files of the cases, and for homes.
        home: the home for the plugin's layers; "" for a new one.
        log: a file to which the plugin's output is appended; by default one in its directory.
    """

    offers = frozenset({Need.SOCKET, Need.PROCESS, Need.HOMES})

    def __init__(
        self, command: str, directory: Path, home: str = "", log: Path | None = None
    ) -> None:
        with contextlib.ExitStack() as held:
            home = home or str(held.enter_context(scratch_directory(directory, "home-")))
            super().__init__(directory, home)
            self._command = command
            run = held.enter_context(scratch_directory(directory, "run-"))
            self._log = log or run / "plugin.log"
            self._process = Process(command, run, self._log)
            held.callback(self._process.end, signal.SIGTERM)
            self._socket = self._begin()
            self._held = held.pop_all()

    def _begin(self) -> SocketSubject:
        address = Address.parse(self._process.socket)
        try:
            return SocketSubject(address, self._directory, self.home, self.homes)
        except UnreachableError as error:  # it took the connection, and ended
            raise self._process.ended(patience=5.0) from error
        except GraphDriverError as error:
            error.hint = f"{error.hint}; {self._process.wrote()}"
            raise

    def kit(self) -> contextlib.AbstractContextManager[Kit]:
        self._process.look()
        return super().kit()

    def written(self) -> Sequence[str]:
        return self._process.written()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._held:
            self._socket.__exit__()

    @property
    def driver(self) -> Driver:
        return self._socket.driver

    def wire(self) -> Wire:
        return self._socket.wire()

    def another_daemon(self) -> contextlib.AbstractContextManager[Wire]:
        return self._socket.another_daemon()

    def pid(self) -> int:
        return self._socket.pid()

    @contextlib.contextmanager
    def another(
        self, *, maps: Sequence[IDMap] = (), options: Sequence[str] = (), home: str = ""
    ) -> Iterator[Driver]:
        with (
            scratch_directory(self._directory, "run-") as run,
            scratch_directory(self._directory, "home-") as new,
            self.homes.admitted(home or str(new)),
        ):
            process = Process(self._command, run, self._log)
            try:
                with Client(process.socket, ANSWER_IN) as client:
                    client.init(home or str(new), options, maps, maps)
                    try:
                        yield client
                    except BaseException:
                        with contextlib.suppress(GraphDriverError):
                            client.cleanup()
                        raise
                    client.cleanup()
            finally:
                process.end(signal.SIGTERM)

    def kill(self) -> None:
        self._process.end(signal.SIGKILL)

    def stop(self, patience: float) -> bool:
        return self._process.end(signal.SIGTERM, patience)

    @contextlib.contextmanager
    def unused(self) -> Iterator[Wire]:
        with scratch_directory(self._directory, "run-") as run:
            process = Process(self._command, run, self._log)
            try:
                with Wire(process.socket) as wire:
                    yield wire
            finally:
                with contextlib.suppress(GraphDriverError), Client(process.socket, 10) as client:
                    client.cleanup()
                process.end(signal.SIGTERM)

    def start(self) -> None:
        self._process.start()

    def revive(self) -> str:
        died = self._process.died()
        if died:
            self._process.start()
            self._socket = self._begin()
        return f"the plugin {died}" if died else ""
