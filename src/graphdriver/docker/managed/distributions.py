"""The Python packages that a driver needs, found by their records of installation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator
from typing import Final

from graphdriver.docker.managed.rootfs import Rootfs
from graphdriver.errors import UnsupportedError

WHERE: Final = "/usr/lib/graphdriver"
"""The directory for them in the container."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RECORDS: Final = ("METADATA", "entry_points.txt", "top_level.txt")


def needed(names: list[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yield distributions, and those that they require, each once.

    What only an extra requires is left out.

    Args:
        names: of installed distributions.

    Raises:
        UnsupportedError: a required one is not installed.
    """
    seen: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop(0)
        if (key := re.sub(r"[-_.]+", "-", name).lower()) in seen:
            continue
        seen.add(key)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise UnsupportedError(
                f"the Python package {name} is not installed", hint=f"pip install {name}"
            ) from error
        yield found
        for requirement in found.requires or ():
            marker = requirement.partition(";")[2]
            if "extra" not in marker and (match := _NAME.match(requirement)):
                queue.append(match[0])


def add_distribution(rootfs: Rootfs, found: importlib.metadata.Distribution) -> None:
    """Copy the modules of a distribution, and the records by which entry points are found.

    Args:
        rootfs: the root that they are copied to, below `WHERE`.
        found: the distribution; it may be installed in editable form.

    Raises:
        UnsupportedError: its modules cannot be found.
    """
    name = found.metadata["Name"]
    for module in _top_level(found):
        spec = importlib.util.find_spec(module)
        if spec is None:
            raise UnsupportedError(f"the module {module} of the package {name} cannot be found")
        for directory in spec.submodule_search_locations or ():
            rootfs.add_tree(
                directory, f"{WHERE}/{module}", is_left_out=lambda one: one == "__pycache__"
            )
        if not spec.submodule_search_locations and spec.origin:
            rootfs.add_file(spec.origin, f"{WHERE}/{os.path.basename(spec.origin)}")
    plain = re.sub(r"[-_.]+", "_", name)
    records = f"{rootfs.path}{WHERE}/{plain}-{found.version}.dist-info"
    os.makedirs(records, exist_ok=True)
    for record in _RECORDS:
        if text := found.read_text(record):
            with open(os.path.join(records, record), "w", encoding="utf-8") as file:
                file.write(text)


def _top_level(found: importlib.metadata.Distribution) -> list[str]:
    """Return the modules of a distribution that are imported by their plain names."""
    if text := found.read_text("top_level.txt"):
        return text.split()
    names = {file.parts[0].partition(".")[0] for file in found.files or () if file.suffix == ".py"}
    # Not every build backend lists the modules of an editable installation.
    names |= {point.module.partition(".")[0] for point in found.entry_points}
    return sorted(name for name in names if name.isidentifier())
