"""What `make release-check` checks beside tests; ``python -m tests.release.check`` prints the faults.

The changelog and the records are those of ``graphdriver.__version__``, and all is committed.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence

import graphdriver
from tests.release.records import Record, kept
from tests.support.documented import ROOT

_SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
_RELEASE = re.compile(r"## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)")
_LONGEST = 180


def form_faults(changelog: str) -> Iterator[str]:
    """Yield where a changelog does not have the form of Keep a Changelog, or an entry is long."""
    versions: list[tuple[list[int], str]] = []
    for number, line in enumerate(changelog.splitlines(), 1):
        where = f"CHANGELOG.md:{number}:"
        if line.startswith("## ") and line != "## Unreleased":
            if found := _RELEASE.fullmatch(line):
                versions.append(([int(part) for part in found[1].split(".")], found[2]))
            else:
                yield f"{where} not of the form '## 1.2.3 - 2026-01-31': {line}"
        elif line.startswith("### ") and line.removeprefix("### ") not in _SECTIONS:
            yield f"{where} not one of {', '.join(sorted(_SECTIONS))}: {line}"
        elif line.startswith("- ") and len(line) > _LONGEST:
            yield f"{where} an entry of over {_LONGEST} characters"
    if versions != sorted(versions, reverse=True):
        yield "CHANGELOG.md: the newest version does not come first"


def changelog_faults(changelog: str, version: str, today: datetime.date) -> Iterator[str]:
    """Yield what a changelog lacks for the release of a version."""
    yield from form_faults(changelog)
    first = next((line for line in changelog.splitlines() if line.startswith("## ")), "")
    found = _RELEASE.fullmatch(first)
    if not found or found[1] != version:
        yield f"CHANGELOG.md: begins with {first!r}, not with version {version}"
    elif found[2] > today.isoformat():
        yield f"CHANGELOG.md: version {version} has a date in the future: {found[2]}"


def record_faults(
    records: Sequence[Record], version: str, expected: Collection[str]
) -> Iterator[str]:
    """Yield which records of runs are missing, or are those of another version."""
    for name in sorted(set(expected) - {one.name for one in records}):
        yield f"tests/release/records/{name}.json is missing; run make records"
    for one in records:
        if one.version != version:
            yield (
                f"tests/release/records/{one.name}.json is of version {one.version}, not of {version};"
                " run make records"
            )


def named_records(makefile: str) -> frozenset[str]:
    """Return the names of the records that ``make records`` writes."""
    return frozenset(re.findall(r"\$\(RECORDS\)/([\w-]+)\.json", makefile))


def faults() -> Iterator[str]:
    """Yield what stands against a release of this tree."""
    status = ["git", "status", "--porcelain"]
    if subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout:
        yield "not everything is committed; see git status"
    version = graphdriver.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    yield from changelog_faults(changelog, version, datetime.datetime.now(datetime.UTC).date())
    yield from record_faults(kept(), version, named_records((ROOT / "Makefile").read_text()))


if __name__ == "__main__":
    found = list(faults())
    print(*found or [f"version {graphdriver.__version__} can be released"], sep="\n")
    sys.exit(bool(found))
