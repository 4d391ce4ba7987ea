"""The daemon's records of its images and containers, given from one storage driver to another.

- ``image/NAME/`` has the images and layers of one driver.
- ``containers/ID/config.v2.json`` names the driver of a container in ``Driver``. A daemon ignores the
  containers of other drivers.
- ``buildkit/`` is one for all drivers. It names layers by their IDs, which they keep.

The source of these rules is moby's ``daemon/daemon.go`` and ``container/container.go``.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graphdriver.care.layer_database import read_record
from graphdriver.care.migration.plan import Side
from graphdriver.care.owners import UnreadError
from graphdriver.files.directories import opened
from graphdriver.files.small_files import parse_object, write_whole
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree

CONTAINERS: Final = "containers"
_CONFIG: Final = "config.v2.json"
_COPY: Final = ".graphdriver-copy"


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record.

    Attributes:
        id: its ID.
        name: its name.
        pid: its process when the daemon wrote the record; 0: it did not run.
        path: the file.
        config: all members.
    """

    id: str
    name: str
    pid: int
    path: str
    config: dict[str, object]


def containers_on(side: Side) -> Iterator[Container]:
    """Yield the containers of a storage driver.

    Raises:
        UnreadError: a record cannot be read.
        OSError: their directory cannot be read.
    """
    above = os.path.join(side.data_root, CONTAINERS)
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        names = sorted(os.listdir(above))
    for id in names:
        path = os.path.join(above, id, _CONFIG)
        if not os.path.lexists(path):
            continue  # the rest of a removed container; the daemon ignores it
        text = read_record(path)
        try:
            config = parse_object(text)
        except ValueError as error:
            raise UnreadError(f"{path} is damaged: {error}") from error
        if config.get("Driver") == side.name:
            state = config.get("State")
            pid = state.get("Pid") if isinstance(state, dict) else 0
            name = str(config.get("Name") or id).removeprefix("/")
            yield Container(id, name, pid if isinstance(pid, int) else 0, path, config)


def switch_records(source: Side, target: Side, *, keeps: bool) -> None:
    """Give all records of one side to the other; it may be interrupted and done again.

    Args:
        source: the old side.
        target: the new side.
        keeps: whether the old side's records of images stay, too.

    Raises:
        UnreadError: a container's record cannot be read.
        OSError: a record cannot be written.
    """
    if os.path.isdir(source.records) and not os.path.lexists(target.records):
        if keeps:
            _copy(source.records, target.records)
        else:
            os.rename(source.records, target.records)
    for container in containers_on(source):
        mode = stat.S_IMODE(os.stat(container.path).st_mode)
        changed = container.config | {"Driver": target.name}
        write_whole(
            container.path, json.dumps(changed, ensure_ascii=False, separators=(",", ":")), mode
        )


def _copy(source: str, target: str) -> None:
    above, name = os.path.split(target)
    with opened(above) as directory, opened(source) as original:
        remove_tree(directory, os.fsencode(_COPY))  # left by an interrupted copy
        os.mkdir(_COPY, 0o700, dir_fd=directory)
        with opened(_COPY, dir_fd=directory) as made:
            copy_tree(original, made)
        os.rename(_COPY, name, src_dir_fd=directory, dst_dir_fd=directory)
