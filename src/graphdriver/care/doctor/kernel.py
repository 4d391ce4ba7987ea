"""What the kernel and its programs can do, and the privileges of this process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from graphdriver.care.findings import Finding, Severity
from graphdriver.drivers.choice import check_driver
from graphdriver.drivers.loading import available
from graphdriver.errors import GraphDriverError
from graphdriver.linux.namespaces import in_user_namespace

OLDEST: Final = (5, 6)
"""The first Linux with openat2(2), by which all trees are read."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What was found.

    Attributes:
        release: the kernel's own name.
        drivers: the installed drivers; ``""``, or why one works nowhere on this machine.
        is_root: whether this process has the rights of root.
        in_user_namespace: whether it is only the root of a user namespace.
    """

    release: str
    drivers: Mapping[str, str]
    is_root: bool = True
    in_user_namespace: bool = False


def read_kernel() -> KernelFacts:
    """Read the facts."""
    drivers = {}
    for name, cls in sorted(available().items()):
        drivers[name] = ""
        try:
            if isinstance(cls, GraphDriverError):
                raise cls
            check_driver(cls, [])
        except GraphDriverError as error:
            drivers[name] = str(error)
    return KernelFacts(os.uname().release, drivers, os.geteuid() == 0, in_user_namespace())


def check_kernel(facts: KernelFacts) -> Iterator[Finding]:
    """Yield what the facts mean."""
    works = ", ".join(name for name, problem in facts.drivers.items() if not problem)
    where = " in a user namespace" if facts.in_user_namespace else ""
    yield Finding(
        Severity.NOTE,
        "kernel",
        f"Linux {facts.release}",
        f"drivers that can work{where}: {works or 'none'}",
    )
    numbers = [int(number) for number in re.findall(r"\d+", facts.release)[:2]]
    if numbers and tuple(numbers) < OLDEST:
        yield Finding(
            Severity.DAMAGE,
            "old-kernel",
            f"Linux {facts.release}",
            "no driver works: the kernel has no openat2(2)",
            "use Linux 5.6 or later",
        )
    for name, problem in facts.drivers.items():
        if problem:
            yield Finding(Severity.NOTE, "driver-unavailable", name, f"cannot work here: {problem}")
    if not facts.is_root:
        yield Finding(
            Severity.WARNING,
            "not-root",
            "",
            "not run as root: other processes, sockets and homes could not be looked at",
            "run it as root",
        )
