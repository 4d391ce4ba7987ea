"""Both engines at work for some time: rounds of actions, of which one part is disturbed."""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.soak.engines.checks import check
from tests.soak.engines.containerd_side import ContainerdSide
from tests.soak.engines.disk import made
from tests.soak.engines.disturbances import DISTURBANCES
from tests.soak.engines.docker_side import DockerSide
from tests.soak.engines.side import Side
from tests.support.snapshotter import DRIVERS

AT_ONCE = 3
"""How many actions run at the same time, at most."""


@dataclass(frozen=True)
class Life:
    """What one pair of engines works on, and for how long.

    Attributes:
        seed: decides every action.
        docker: the driver that the daemon's plugin serves.
        containerd: the driver of the snapshotter.
        seconds: no round begins later.
    """

    seed: str
    docker: str
    containerd: str
    seconds: float


def lives(seed: str, seconds: float, shortest: float) -> list[Life]:
    """Return lives in which all drivers get their turn, if there is time for it."""
    drivers = random.Random(seed).sample(DRIVERS, len(DRIVERS))
    count = max(1, min(len(drivers), int(seconds / shortest)))
    return [
        Life(f"{seed}/{number}", drivers[number], drivers[number - 1], seconds / count)
        for number in range(count)
    ]


def live(life: Life) -> list[Side]:
    """Let both engines work at the same time; return what they have done."""
    failed = threading.Event()
    with shared_tmpfs() as folder:

        def side(engine: str) -> Side:
            try:
                with started(life, engine, folder) as one:
                    rounds(one, life, failed)
                    check_end(one)
                    return one
            except BaseException as error:
                failed.set()
                error.add_note(f"GRAPHDRIVER_SOAK_SEED={life.seed.partition('/')[0]}")
                raise

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(side, engine) for engine in ("docker", "containerd")]
        if errors := [error for one in running if (error := one.exception())]:
            raise BaseExceptionGroup("the engines did not get through", errors)
        return [one.result() for one in running]


@contextlib.contextmanager
def shared_tmpfs() -> Iterator[Path]:
    """Mount a tmpfs for all files of a life; it is shared, as most systems mount their root."""
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/dev/shm") as folder:
        words = ["mount", "-t", "tmpfs", "-o", "mode=0711,size=8g", "soak", folder]
        subprocess.run([*words, "--make-shared"], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", folder], check=True)


@contextlib.contextmanager
def started(life: Life, engine: str, above: Path) -> Iterator[Side]:
    """Start an engine and what is under test."""
    folder = above / engine[0]
    folder.mkdir(mode=0o711)
    driver = life.docker if engine == "docker" else life.containerd
    with made("btrfs" if driver == "btrfs" else "ext4", folder) as disk:
        make = DockerSide if engine == "docker" else ContainerdSide
        side = make(driver, disk, folder, random.Random(life.seed))
        with contextlib.closing(side):
            side.start()
            side.start_engine()
            yield side


def rounds(side: Side, life: Life, failed: threading.Event) -> None:
    """Do rounds until the time is over."""
    until = time.monotonic() + life.seconds
    while time.monotonic() < until and not failed.is_set():
        number = side.figures.rounds
        side.chance = random.Random(f"{life.seed}/{side.engine}/{number}")
        try:
            one_round(side)
        except BaseException as error:
            error.add_note(f"{side.engine} on {side.driver}, round {number} of {life}")
            error.add_note("\n".join(side.journal[-30:]))
            error.add_note("\n".join(side.complaints()[-20:]))
            raise
        side.figures.rounds += 1


def one_round(side: Side) -> None:
    """Work undisturbed, then disturbed, then undisturbed again, and check everything."""
    chance = side.chance
    for _ in range(chance.randrange(1, 3)):
        side.do(side.choose(chance.randrange(1, AT_ONCE + 1)))
    disturbance = chance.choice([one for one in DISTURBANCES if one.can(side)])
    side.figures.disturbances[disturbance.name] += 1
    side.journal.append(f"begins: {disturbance.name}")
    with disturbance.around(side):
        for _ in range(disturbance.steps):
            actions = side.choose(chance.randrange(1, AT_ONCE + 1))
            side.try_to_do(actions, disturbance.name, lambda: disturbance.meanwhile(side))
    side.journal.append(f"ended: {disturbance.name}")
    side.settle()
    side.do(side.choose(1))
    check(side)


def check_end(side: Side) -> None:
    """Check every byte of every image, and that only what the engine knows is left at the end."""
    for image in side.images:
        side.check_saved(image)
    for name in (*side.containers, *side.images):
        side.forget(name)
    side.containers.clear()
    side.images.clear()
    side.stop_engine()
    side.start_engine()
    side.remove_all()
    check(side)
    side.note_calls()
