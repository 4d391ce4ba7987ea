"""The records of the engine that a home belongs to, whichever that is."""

from __future__ import annotations

import os

from graphdriver.care.containerd_records import read_containerd
from graphdriver.care.docker_records import place_of, read_docker
from graphdriver.care.owners import EngineRecords


def read_records(home: str, engine: str) -> EngineRecords | None:
    """Return what an engine has recorded of the layers in a home; None if it has no records there.

    Args:
        home: its absolute path.
        engine: the engine, by the home's record.
    """
    if engine == "containerd":
        return read_containerd(home)
    data_root, name = place_of(home)
    # A new daemon has no image.
    if engine == "docker" and os.path.isdir(os.path.join(data_root, "image", name)):
        return read_docker(data_root, name)
    return None
