"""containerd: its version, and whether it has a snapshotter for a root."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphdriver.care.findings import Finding, Severity


@dataclass(frozen=True, slots=True)
class ContainerdFacts:
    """What was found.

    Attributes:
        path: its socket.
        problem: why nothing is known; ``""``: it answered.
        version: as it says.
        snapshotters: the names of the snapshotters that it has.
    """

    path: str
    problem: str = ""
    version: str = ""
    snapshotters: frozenset[str] = frozenset()


def check_containerd(facts: ContainerdFacts, name: str = "") -> Iterator[Finding]:
    """Yield what the facts mean.

    Args:
        facts: those of containerd.
        name: the snapshotter that it should have; ``""``: unknown.
    """
    if facts.problem:
        yield Finding(Severity.NOTE, "no-containerd", facts.path, facts.problem)
        return
    others = ", ".join(sorted(facts.snapshotters)) or "none"
    yield Finding(
        Severity.NOTE,
        "containerd",
        facts.path,
        f"containerd {facts.version or 'of unknown version'} with the snapshotters {others}",
    )
    if name and name not in facts.snapshotters:
        yield Finding(
            Severity.WARNING,
            "unknown-snapshotter",
            facts.path,
            f"containerd has no snapshotter {name}: its configuration does not name it",
            f"add what graphdriver snapshotter --name {name} --print-config prints to"
            " /etc/containerd/config.toml, and restart containerd",
        )
