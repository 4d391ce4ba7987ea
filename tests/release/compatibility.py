"""The tables of what was tested; ``python -m tests.release.compatibility`` makes them of the records.

A number is that of the tests that passed. README.md and docs/compatibility.md have the tables between
two comments, which readers do not see.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tests.release.records import Record, kept, total
from tests.support.documented import ROOT

DRIVERS = ("overlay2", "erofs", "btrfs", "fuse-overlayfs", "vfs")
PAGES = (ROOT / "README.md", ROOT / "docs" / "compatibility.md")


def engines(records: Sequence[Record]) -> str:
    """Return the table of engines and drivers."""
    passed: dict[tuple[str, str, str], Counter[str]] = {}
    for record in records:
        for (engine, system, way, driver), counts in record.engines.items():
            row = passed.setdefault((engine, system, way), Counter())
            row[driver] += total(counts, "passed")
    lines = [
        f"| engine | how | {' | '.join(DRIVERS)} |",
        f"| --- | --- |{' ---: |' * len(DRIVERS)}",
    ]
    for (engine, system, way), of in sorted(passed.items(), key=_in_order):
        numbers = (str(of[driver] or "-") for driver in DRIVERS)
        lines.append(f"| {engine}, {system} | {way} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def pythons(records: Sequence[Record]) -> str:
    """Return the table of Pythons."""
    lines = ["| Python | tests | record | kernel |", "| --- | ---: | --- | --- |"]
    for record in sorted(records, key=lambda one: (_version(one.python), one.name)):
        passed = total(record.tests, "passed")
        told = f"`{record.name}.json`, {record.made} | {record.kernel}"
        lines.append(f"| {record.python} | {passed} | {told} |")
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[Sequence[Record]], str]] = {"engines": engines, "pythons": pythons}


def with_tables(text: str, records: Sequence[Record]) -> str:
    """Return a page with its tables written anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table of {name} -->\n", f"<!-- end of the table of {name} -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            text = f"{before}{begin}{table(records)}\n{end}" + rest.partition(end)[2]
    return text


def _in_order(row: tuple[tuple[str, str, str], object]) -> tuple[str, list[int], str]:
    (engine, _, way), _ = row
    name, _, version = engine.partition(" ")
    return name.lower(), _version(version), way


def _version(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text(), kept()))
