"""The reports of a run: a live table or plain lines, a summary, and files for programs."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Final, TextIO
from xml.etree import ElementTree

from graphdriver.conformance.kit.case import Case, Group, K
from graphdriver.conformance.kit.run import Outcome, Result, Watcher

_WIDTH: Final = 96
_UP: Final = "\x1b[{}A"
_CLEAR: Final = "\x1b[K"
_RED: Final = "\x1b[31m{}\x1b[0m"
_COUNTED: Final = ("passed", "failed", "optional failed", "not run")
_ALWAYS: Final = _COUNTED[:2]
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def watcher(out: TextIO, groups: Sequence[Group[K]], cases: Sequence[Case[K]]) -> Watcher:
    """Return a table for a terminal, lines for anything else."""
    if not out.isatty():
        return _Lines(out)
    counts = {group.name: 0 for group in groups}
    for case in cases:
        counts[case.group] += 1
    return _Table(out, {name: count for name, count in counts.items() if count})


class _Lines:
    """A line for each case, once it is over."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def began(self, case: Case[K]) -> None:
        pass

    def ended(self, result: Result[K]) -> None:
        print(_line(result), file=self._out, flush=True)


class _Table:
    """A row for each group, which is updated while its cases run."""

    def __init__(self, out: TextIO, counts: dict[str, int]) -> None:
        self._out = out
        self._counts = counts
        self._done = {name: dict.fromkeys(Outcome, 0) for name in counts}
        self._running = ""
        self._is_drawn = False

    def began(self, case: Case[K]) -> None:
        self._running = case.id
        self._draw()

    def ended(self, result: Result[K]) -> None:
        self._running = ""
        self._done[result.case.group][result.outcome] += 1
        self._draw()

    def _draw(self) -> None:
        rows = []
        for name, count in self._counts.items():
            done = self._done[name]
            failed = f"{done[Outcome.FAILED]:>3} failed"
            running = self._running if self._running.partition("/")[0] == name else ""
            rows.append(
                f"{name:<20}{done[Outcome.PASSED]:>4} of {count:<4}"
                f"{_RED.format(failed) if done[Outcome.FAILED] else ' ' * len(failed)}  {running}"
            )
        up = _UP.format(len(rows)) if self._is_drawn else ""
        self._is_drawn = True
        print(up + "\n".join(row + _CLEAR for row in rows), file=self._out, flush=True)


def _line(result: Result[K]) -> str:
    case = result.case
    optional = "" if case.required else "  (optional)"
    if result.outcome is Outcome.NOT_RUN:
        return f"{result.outcome.value:<8}  {case.id}{optional}: {result.what}"
    return f"{result.outcome.value:<8}  {case.id}{optional}  {result.seconds:.2f} s"


def summary(results: Sequence[Result[K]]) -> str:
    """Return the explanations of all failures, and the counts: of each group, and of all cases."""
    parts = [explanation(result) for result in results if result.outcome is Outcome.FAILED]
    if len(groups := dict.fromkeys(result.case.group for result in results)) > 1:
        parts.append(
            "\n".join([_row("group", _COUNTED), *(_group(results, one) for one in groups)])
        )
    counts = _counts(results)
    total = [
        f"{count} {name}"
        for name, count in zip(_COUNTED, counts, strict=True)
        if count or name in _ALWAYS
    ]
    seconds = sum(result.seconds for result in results)
    return "\n\n".join([*parts, f"{', '.join(total)}, in {seconds:.1f} s"])


def _group(results: Sequence[Result[K]], name: str) -> str:
    counts = _counts([result for result in results if result.case.group == name])
    return _row(name, [str(count or "") for count in counts])


def _row(name: str, cells: Sequence[str]) -> str:
    columns = (f"{cell:>{len(title) + 2}}" for title, cell in zip(_COUNTED, cells, strict=True))
    return f"{name:<20}{''.join(columns)}".rstrip()


def _counts(results: Sequence[Result[K]]) -> tuple[int, int, int, int]:
    """Return how many cases had each of the results in `_COUNTED`."""
    bad = sum(result.is_bad for result in results)
    passed, failed, left = (
        sum(result.outcome is outcome for result in results) for outcome in Outcome
    )
    return passed, bad, failed - bad, left


def explanation(result: Result[K]) -> str:
    """Return the full explanation of a case that failed."""
    case = result.case
    lines = {
        "checks": case.checks,
        "why": case.why,
        "what": result.what,
        "saw": result.saw,
        "expected": result.expected,
        "besides": result.note,
    }
    title = f"{case.id} failed" if case.required else f"{case.id} failed (optional)"
    log = [f"  {'' if number else 'log:':<10}{line}" for number, line in enumerate(result.log)]
    paragraphs = [_paragraph(name, text) for name, text in lines.items() if text]
    sources = [
        f"  {'' if number else 'see:':<10}{one}" for number, one in enumerate(case.references)
    ]
    return "\n".join([title, *paragraphs, *sources, *log])


def _paragraph(name: str, text: str) -> str:
    start = f"  {name + ':':<10}"
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return "\n".join(lines)


def junit(results: Sequence[Result[K]]) -> str:
    """Return a run as JUnit's XML; an optional case that failed counts as skipped."""
    suite = ElementTree.Element(
        "testsuite",
        name="graphdriver conform",
        tests=str(len(results)),
        failures=str(sum(result.is_bad for result in results)),
        skipped=str(
            sum(result.outcome is not Outcome.PASSED and not result.is_bad for result in results)
        ),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        group, _, name = result.case.id.partition("/")
        one = ElementTree.SubElement(
            suite, "testcase", classname=group, name=name, time=f"{result.seconds:.3f}"
        )
        if result.outcome is Outcome.PASSED:
            continue
        kind = "failure" if result.is_bad else "skipped"
        text = result.what if result.outcome is Outcome.NOT_RUN else explanation(result)
        ElementTree.SubElement(one, kind, message=_printable(result.what)).text = _printable(text)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _printable(text: str) -> str:
    """Replace characters that XML 1.0 excludes, escaped or not (section 2.2)."""
    return _NOT_XML.sub("\ufffd", text)


def listed(cases: Sequence[Case[K]]) -> str:
    """Return cases as JSON: a list of objects with the first members of those of `as_json`."""
    return json.dumps([_of_case(case) for case in cases], indent=2)


def _of_case(case: Case[K]) -> dict[str, object]:
    return {
        "id": case.id,
        "checks": case.checks,
        "why": case.why,
        "references": case.references,
        "required": case.required,
    }


def as_json(results: Sequence[Result[K]]) -> str:
    """Return a run as JSON: a list of objects, one for each case."""
    return json.dumps(
        [
            {
                **_of_case(result.case),
                "outcome": result.outcome.value,
                "seconds": round(result.seconds, 3),
                "what": result.what,
                "saw": result.saw,
                "expected": result.expected,
                "note": result.note,
                "log": list(result.log),
            }
            for result in results
        ],
        indent=2,
    )
