"""The cases in docs/conformance.md; ``python -m tests.project.documented_cases`` lists them anew."""

from __future__ import annotations

from pathlib import Path

from graphdriver.conformance.kit.case import Group, K
from graphdriver.conformance.plugin.cases import GROUPS
from graphdriver.conformance.snapshotter.cases import GROUPS as SNAPSHOT_GROUPS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
HEADING = "## The cases\n"


def text() -> str:
    """Return what stands below the heading."""
    plugins = "".join(map(_section, GROUPS))
    snapshotters = "".join(map(_section, SNAPSHOT_GROUPS))
    return f"{plugins}\n## The cases for snapshotters\n{snapshotters}"


def _section(group: Group[K]) -> str:
    lines = [
        f"\n### {group.name}: {group.about}\n",
        "| case | rule | |",
        "| --- | --- | --- |",
    ]
    for case in group.cases:
        _, _, name = case.id.partition("/")
        lines.append(f"| {name} | {case.checks} | {'' if case.required else 'optional'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    before, heading, _ = PAGE.read_text().partition(HEADING)
    PAGE.write_text(before + heading + text())
