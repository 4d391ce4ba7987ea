"""The page of the files on disk, which the docstrings of the modules describe that write them."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Final

from website.reference.markdown import docstring

_LAYOUTS: Final = {
    "Every home": "graphdriver.store",
    "`.graphdriver/`": "graphdriver.serving.home",
    "`.graphdriver/layers`": "graphdriver.serving.layer_journal",
    "`.graphdriver/server.json`": "graphdriver.serving.server_record",
    "`.probed`": "graphdriver.drivers.probe_record",
    "overlay2 and fuse-overlayfs": "graphdriver.drivers.overlay",
    "erofs": "graphdriver.drivers.erofs",
    "An image of erofs": "graphdriver.layer.erofs",
    "btrfs": "graphdriver.drivers.btrfs",
    "vfs": "graphdriver.drivers.vfs",
    "The records of a snapshotter": "graphdriver.containerd.metadata",
    "The database of a snapshotter": "graphdriver.containerd.database",
    "`/run/graphdriver/plugins`": "graphdriver.docker.state",
    "`init.json`": "graphdriver.docker.daemon",
}
"""The sections of the page, and the module of each."""

_MODULES_OF_A_PACKAGE: Final = re.compile(
    r"^(Each file is one subject:\n\n)?- `(?!`).+?(\n\n|\Z)", re.MULTILINE | re.DOTALL
)
"""The list in the docstring of a package, which is for those who read the source."""


def page() -> str:
    """Return the page."""
    return "\n".join(_pieces())


def _pieces() -> Iterator[str]:
    yield "# Files on disk\n"
    yield (
        "HOME is the driver's directory: `DATA-ROOT/NAME` for a plugin called NAME, the directory given"
        " with `--root` for a snapshotter. `graphdriver fsck` checks all that is described here.\n"
    )
    for title, module in _LAYOUTS.items():
        yield f"## {title}\n"
        text = inspect.getdoc(importlib.import_module(module)) or ""
        yield docstring(_MODULES_OF_A_PACKAGE.sub("", text))
