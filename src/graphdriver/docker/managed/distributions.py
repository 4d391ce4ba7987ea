"""The Python packages that a driver needs, found by their records of installation."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from typing import Final

from graphdriver.docker.managed.rootfs import Rootfs
from graphdriver.errors import UnsupportedError

WHERE: Final = "/usr/lib/graphdriver"
"""The directory for them in the container."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA: Final = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")
_RECORDS: Final = ("METADATA", "entry_points.txt", "top_level.txt")


def needed(names: list[str], extra: str = "") -> Iterator[importlib.metadata.Distribution]:
    """Yield distributions, and those that they require, each once.

    Args:
        names: of installed distributions.
        extra: what this extra requires is yielded too, as far as it is installed. What only another
            extra requires is left out.

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
        found = _installed(name)
        if found is None:
            raise UnsupportedError(
                f"the Python package {name} is not installed", hint=f"pip install {name}"
            )
        yield found
        queue += _required(found)
        queue += (one for one in _required(found, extra) if extra and _installed(one))


def absent(name: str, extra: str) -> list[str]:
    """Return what an extra of an installed distribution requires, and is not installed."""
    found = _installed(name)
    return [one for one in _required(found, extra) if not _installed(one)] if found else []


def _installed(name: str) -> importlib.metadata.Distribution | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.distribution(name)
    return None


def _required(found: importlib.metadata.Distribution, extra: str = "") -> Iterator[str]:
    """Yield the names of what a distribution requires: always, or for an extra."""
    for requirement in found.requires or ():
        marker = _EXTRA.search(requirement.partition(";")[2])
        if (marker[1] if marker else "") == extra and (name := _NAME.match(requirement)):
            yield name[0]


def add_distribution(rootfs: Rootfs, found: importlib.metadata.Distribution) -> None:
    """Copy the modules of a distribution, its licences, and the records that name its entry points.

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
    for licence in found.files or ():
        if "licenses" in licence.parts:
            shutil.copyfile(str(licence.locate()), os.path.join(records, licence.name))


def _top_level(found: importlib.metadata.Distribution) -> list[str]:
    """Return the modules of a distribution that are imported by their plain names."""
    if text := found.read_text("top_level.txt"):
        return text.split()
    names = {file.parts[0].partition(".")[0] for file in found.files or () if file.suffix == ".py"}
    # Not every build backend lists the modules of an editable installation.
    names |= {point.module.partition(".")[0] for point in found.entry_points}
    return sorted(name for name in names if name.isidentifier())
