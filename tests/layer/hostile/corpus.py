"""All attacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

from tests.layer.hostile import (
    devices,
    hard_links,
    headers,
    links,
    names,
    programs,
    roots,
    sparse_maps,
    whiteouts,
)
from tests.layer.hostile.attack import Attack

Maker = Callable[[bytes], Attack]

MODULES = (
    names,
    links,
    hard_links,
    roots,
    whiteouts,
    devices,
    headers,
    sparse_maps,
    programs,
)


def attacks_of(module: ModuleType) -> list[Maker]:
    """Return a module's attacks: the functions that say that they return one."""
    return [
        function
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and function.__annotations__["return"] == "Attack"
    ]


CORPUS: list[Maker] = [maker for module in MODULES for maker in attacks_of(module)]
