"""What goes wrong while an engine works, and how it is put right again.

A disturbance is a context manager around actions, in which something is missing, or a function that
ends and starts processes while the actions run. When it is over, everything works again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.soak.engines.side import Side

LONGEST_DELAY = 0.6
"""Seconds after which something is killed, at most; most actions take about as long."""

LONGEST_LIMIT = 10.0
"""Seconds for which the process under test has few descriptors or little memory, at most."""


@dataclass(frozen=True)
class Disturbance:
    """Something that goes wrong.

    Attributes:
        name: what it is called in the figures.
        around: the time in which something is taken away.
        meanwhile: what happens while actions run.
        can: whether it can happen on this side.
        steps: during how many steps it lasts.
    """

    name: str
    around: Callable[[Side], contextlib.AbstractContextManager[object]]
    meanwhile: Callable[[Side], None] = lambda side: None
    can: Callable[[Side], bool] = lambda side: True
    steps: int = 1


# --- something is missing ---


@contextlib.contextmanager
def full_disk(side: Side) -> Iterator[None]:
    side.disk.fill()
    try:
        yield
    finally:
        side.disk.free()
        keep_serving(side)


@contextlib.contextmanager
def read_only_disk(side: Side) -> Iterator[None]:
    side.disk.break_down()
    try:
        yield
    finally:
        side.mount_again()


@contextlib.contextmanager
def few_descriptors(side: Side) -> Iterator[None]:
    """Let the process under test open only some more files than it has open."""
    more = side.chance.randrange(2, 12)
    open_now = len(os.listdir(f"/proc/{side.pid}/fd"))
    with _limited(side, resource.RLIMIT_NOFILE, open_now + more):
        yield


@contextlib.contextmanager
def little_memory(side: Side) -> Iterator[None]:
    """Let the process under test map only some more memory than it has mapped."""
    more = side.chance.randrange(0, 2 << 20)
    with open(f"/proc/{side.pid}/statm") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    with _limited(side, resource.RLIMIT_AS, mapped + more):
        yield


@contextlib.contextmanager
def _limited(side: Side, what: int, most: int) -> Iterator[None]:
    pid, before = side.pid, resource.prlimit(side.pid, what)

    def lift() -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            resource.prlimit(pid, what, before)

    resource.prlimit(pid, what, (most, before[1]))
    # A connection without a thread or a descriptor waits, and its call with it.
    lifting = threading.Timer(LONGEST_LIMIT, lift)
    lifting.start()
    try:
        yield
    finally:
        lifting.cancel()
        lift()
        keep_serving(side)


def keep_serving(side: Side) -> None:
    """Start the process under test again if it has ended, as a service manager does."""
    code = side.exit_code()
    if code is not None:
        side.figures.ended[f"with {code}"] += 1
        side.start()
    side.await_server()


# --- something ends, and is started again ---


@contextlib.contextmanager
def after_a_while(side: Side) -> Iterator[None]:
    """End something at some moment, and start it again at another, as a service manager does."""
    time.sleep(side.chance.uniform(0, LONGEST_DELAY))
    yield
    time.sleep(side.chance.uniform(0, LONGEST_DELAY))


def kill_server(side: Side) -> None:
    with after_a_while(side):
        side.kill()
    side.start()


def stop_server(side: Side) -> None:
    with after_a_while(side):
        side.stop()
    side.start()


def kill_engine(side: Side) -> None:
    with after_a_while(side):
        side.kill_engine()
    side.start_engine()


def stop_engine(side: Side) -> None:
    with after_a_while(side):
        side.stop_engine()
    side.start_engine()


def kill_both(side: Side) -> None:
    with after_a_while(side):
        side.kill()
        side.kill_engine()
    side.start()
    side.start_engine()


@contextlib.contextmanager
def until_reached(side: Side) -> Iterator[None]:
    yield
    side.await_server()


def can_break(side: Side) -> bool:
    return side.disk.can_break


DISTURBANCES = (
    Disturbance("plugin restarted", until_reached, stop_server),
    Disturbance("plugin killed", until_reached, kill_server),
    Disturbance("engine restarted", until_reached, stop_engine),
    Disturbance("engine killed", until_reached, kill_engine),
    Disturbance("both killed", until_reached, kill_both),
    Disturbance("full disk", full_disk, steps=3),
    Disturbance("read-only disk", read_only_disk, can=can_break, steps=2),
    Disturbance("few descriptors", few_descriptors, steps=3),
    Disturbance("little memory", little_memory, steps=3),
)
