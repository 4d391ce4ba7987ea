"""The content of a home and its mounts, found without the plugin."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from graphdriver.drivers.erofs.layout import APPLIED
from graphdriver.drivers.overlay.reference_counts import COUNTS
from graphdriver.files.runtime_directory import file_name
from graphdriver.linux.mountinfo import mount_points

OUR_OWN = {".graphdriver", ".probed", ".reserve", ".staging", ".trash"}
LINKS = "l"
SETTLED_WITHIN = 30.0


def layers(home: Path) -> set[str]:
    """Return the layers in a home."""
    return {name for name in os.listdir(home) if not name.startswith(".") and name != LINKS}


def marked(home: Path) -> set[str]:
    """Return the layers that have the mark."""
    return set(os.listdir(home / ".graphdriver/applying"))


def mounted(home: Path) -> list[str]:
    """Return what is mounted below a home, relative to it."""
    above = os.fsencode(home) + b"/"
    points = [point.point for point in mount_points()]
    return [os.fsdecode(one[len(above) :]) for one in points if one.startswith(above)]


def counts(home: Path) -> dict[str, str]:
    """Return what is kept of a home's layers being held, as it stands."""
    folder = Path(COUNTS, file_name(str(home)))
    if not folder.exists():
        return {}
    return {file.name: file.read_text() for file in folder.iterdir() if file.name[0] != "."}


def holds(home: Path) -> dict[str, int]:
    """Return the reference count of each mounted layer; 1 if it has none."""
    told = counts(home)
    points = [point.split("/") for point in mounted(home)]
    ids = [id for id, name in points if name != APPLIED]
    return {id: int(told[id].split()[1]) if told.get(id) else 1 for id in ids}


def await_holds(home: Path, held: Mapping[str, int]) -> None:
    """Wait for these reference counts: a Diff releases its layers after its last byte was sent."""
    expected = {id: times for id, times in held.items() if times}
    deadline = time.monotonic() + SETTLED_WITHIN
    while holds(home) != expected and time.monotonic() < deadline:
        time.sleep(0.005)


def litter(home: Path) -> list[str]:
    """Return what should have been swept, once that has had its time."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while found := _litter(home):
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    return found


def _litter(home: Path) -> list[str]:
    names = os.listdir(home)
    found = [name for name in names if name.startswith(".") and name not in OUR_OWN]
    for own in (".staging", ".trash"):
        if own in names:
            found += [f"{own}/{name}" for name in os.listdir(home / own)]
    found += [f"mark of {id}" for id in marked(home) - layers(home)]
    if LINKS in names:
        used = {(home / id / "link").read_text() for id in layers(home)}
        # Images have links of their own.
        used |= {
            (home / id / "link").read_text() + "-a"
            for id in layers(home)
            if (home / id / APPLIED).exists()
        }
        found += [f"{LINKS}/{name}" for name in set(os.listdir(home / LINKS)) ^ used]
    return found
