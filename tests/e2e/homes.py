"""What lies in a plugin's home, and whether each layer there is accounted for.

A daemon's own records of its layers lie below ``DATA-ROOT/image/DRIVER/layerdb``: for each layer of
an image, and for each container, the ID under which the plugin knows it.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.daemon import Daemon

NAMES_OF_DRIVERS = {"l"}
"""What drivers keep in a home beside layers, other than what begins with a dot."""

SWEEP_TIMEOUT = 60.0


def home_of(daemon: Daemon) -> Path:
    """Return the home that the daemon named at Init."""
    return daemon.root / daemon.storage_driver


def layers(daemon: Daemon) -> list[str]:
    """Return the layers in the home."""
    names = {path.name for path in home_of(daemon).iterdir() if not path.name.startswith(".")}
    return sorted(names - NAMES_OF_DRIVERS)


def size_on_disk(daemon: Daemon, layer: str) -> int:
    """Return the sum of the sizes of a layer's files, in bytes."""
    paths = (home_of(daemon) / layer).rglob("*")
    return sum(path.stat().st_size for path in paths if path.is_file())


def unfinished(daemon: Daemon) -> list[str]:
    """Return the layers that bear the mark of an ApplyDiff that has not ended."""
    return sorted(path.name for path in (home_of(daemon) / ".graphdriver/applying").iterdir())


def known(daemon: Daemon) -> list[str]:
    """Return the layers that the daemon counts on."""
    records = _records(daemon)
    files = [it for it in records.glob("sha256/*/cache-id") if not _is_going(it)]
    for name in ("mount-id", "init-id"):
        files += records.glob(f"mounts/*/{name}")
    return sorted(file.read_text() for file in files)


def being_removed(daemon: Daemon) -> list[str]:
    """Return the layers whose removal failed; the daemon tries again when it starts."""
    files = _records(daemon).glob("sha256/*/cache-id")
    return sorted(file.read_text() for file in files if _is_going(file))


def _records(daemon: Daemon) -> Path:
    return daemon.root / "image" / daemon.storage_driver / "layerdb"


def _is_going(record: Path) -> bool:
    return record.parent.name.endswith("-removing")


def unswept(daemon: Daemon) -> list[str]:
    """Return what is left of layers half made and half deleted, once sweeping has had its time."""
    home = home_of(daemon)
    deadline = time.monotonic() + SWEEP_TIMEOUT
    while left := [
        f"{own}/{path.name}"
        for own in (".staging", ".trash")
        if (home / own).exists()
        for path in (home / own).iterdir()
    ]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left
