"""Which engine ran on which driver, as the engines and the homes tell it: for the record of a run.

Only a run that is recorded (`tests.support.run_record`) asks. A pairing is noted when a test uses an
engine, not when the engine starts: many tests share one.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graphdriver.containerd.questions import ask
from graphdriver.errors import RemoteError, UnreachableError
from graphdriver.serving.home_contents import IDENTITY
from tests.support.ground import ELSEWHERE

IMAGE_STORE = ["driver-type", "io.containerd.snapshotter.v1"]
"""What ``docker info`` says of a daemon that keeps its images in containerd."""


class Pairing(NamedTuple):
    """An engine on one of our drivers.

    Attributes:
        engine: its name and version: ``Docker 20.10.24``.
        system: the system that it is from: ``Debian 12 (bookworm)``.
        way: how it uses the driver: ``graph driver plugin``.
        driver: the driver's name.
    """

    engine: str
    system: str
    way: str
    driver: str


class Noted:
    """The pairings that were used since `take` was called last."""

    def __init__(self) -> None:
        self.is_recording = False
        self._used: set[Pairing] = set()
        self._snapshotters: dict[str, str] = {}

    def note(self, pairing: Pairing | None) -> None:
        """Note that a test used this pairing."""
        if pairing:
            self._used.add(pairing)

    def take(self) -> list[Pairing]:
        """Return what was noted, and forget it."""
        used, self._used = sorted(self._used), set()
        return used

    def of_docker(
        self, info: Mapping[str, Any], homes: Iterable[Path], containerd: str
    ) -> Pairing | None:
        """Return the pairing of a daemon; None if it runs on no driver of ours.

        Args:
            info: what ``docker info`` answers.
            homes: where the home of a plugin of ours would be.
            containerd: the socket of the containerd that the daemon uses; ``""`` for its own.
        """
        driver: str | None
        if IMAGE_STORE in (info["DriverStatus"] or ()):
            is_ours, way = info["Driver"] == "ours", "containerd image store"
            driver = self._snapshotters.get(containerd) if is_ours else None
        else:
            driver, way = _driver_of(homes), _way(info["Driver"], info["SecurityOptions"])
        if driver is None:
            return None
        return Pairing(_named("Docker", info["ServerVersion"]), system(), way, driver)

    def of_containerd(self, version: str, socket: str, snapshotter: str) -> Pairing | None:
        """Return the pairing of a containerd; None if no snapshotter of ours answers.

        Args:
            version: what ``ctr version`` prints.
            socket: containerd's socket.
            snapshotter: the snapshotter's socket.
        """
        try:
            status: Any = ask(snapshotter, "status")
        except (RemoteError, UnreachableError):
            return None
        driver = self._snapshotters[socket] = str(status["driver"])
        server = version.partition("Server:")[2]
        return Pairing(_named("containerd", server), system(), "proxy snapshotter", driver)


noted = Noted()


def system() -> str:
    """Return the name of the system that the engines are from."""
    for line in Path(ELSEWHERE or "/", "etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"').replace("GNU/Linux ", "")
    return platform.system()


def _way(driver: str, security: Sequence[str]) -> str:
    way = "managed plugin" if ":" in driver else "graph driver plugin"
    for name, adds in (("name=rootless", "rootless"), ("name=userns", "remapped IDs")):
        if any(option.startswith(name) for option in security or ()):
            way += f", {adds}"
    return way


def _driver_of(homes: Iterable[Path]) -> str | None:
    for home in homes:
        if (identity := home / IDENTITY).exists():
            return str(json.loads(identity.read_text())["driver"])
    return None


def _named(engine: str, version: str) -> str:
    found = re.search(r"\d+(\.\d+)+", version)
    assert found, f"{engine} tells no version: {version!r}"
    return f"{engine} {found[0]}"
