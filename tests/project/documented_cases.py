"""The cases in docs/conformance.md; ``python -m tests.project.documented_cases`` lists them anew."""

from __future__ import annotations

from pathlib import Path

from graphdriver.conformance.cases import GROUPS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
HEADING = "## The cases\n"


def text() -> str:
    """Return what stands below the heading."""
    parts = []
    for group in GROUPS:
        lines = [
            f"\n### {group.name}: {group.about}\n",
            "| case | what is right | |",
            "| --- | --- | --- |",
        ]
        for case in group.cases:
            _, _, name = case.id.partition("/")
            lines.append(f"| {name} | {case.checks} | {'' if case.required else 'optional'} |")
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    before, heading, _ = PAGE.read_text().partition(HEADING)
    PAGE.write_text(before + heading + text())
