"""The privileges of a process, as the kernel shows them in /proc."""

from __future__ import annotations

import os
from typing import NamedTuple

from graphdriver.linux.capabilities import named


class Privileges(NamedTuple):
    """The privileges of one thread (proc(5), /proc/PID/status)."""

    inheritable: frozenset[str]
    permitted: frozenset[str]
    effective: frozenset[str]
    bounding: frozenset[str]
    ambient: frozenset[str]
    no_new: bool


def privileges_of(pid: int | str = "self") -> set[Privileges]:
    """Return the different privileges of a process's threads: one, if all have the same."""
    return {_of_thread(f"/proc/{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task")}


def _of_thread(directory: str) -> Privileges:
    with open(f"{directory}/status", encoding="utf-8") as file:
        fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    inheritable, permitted, effective, bounding, ambient = (
        named(int(fields[f"Cap{name}"], 16)) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")
    )
    no_new = fields["NoNewPrivs"].strip() == "1"
    return Privileges(inheritable, permitted, effective, bounding, ambient, no_new)
