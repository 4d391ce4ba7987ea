"""What programs read of a run: JUnit's XML, which CI servers show, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from graphdriver.conformance.kit.case import Case, K
from graphdriver.conformance.kit.report import explanation
from graphdriver.conformance.kit.run import Outcome, Result

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    """Leave out what XML 1.0 cannot hold, however it is escaped (section 2.2)."""
    return _NOT_XML.sub("\ufffd", text)


def listed(cases: Sequence[Case[K]]) -> str:
    """Return cases as JSON: a list of objects, the beginning of what `as_json` tells of each."""
    return json.dumps([_told(case) for case in cases], indent=2)


def _told(case: Case[K]) -> dict[str, object]:
    return {
        "id": case.id,
        "checks": case.checks,
        "why": case.why.text,
        "references": case.why.references,
        "required": case.required,
    }


def as_json(results: Sequence[Result[K]]) -> str:
    """Return a run as JSON: a list of objects, one for each case."""
    return json.dumps(
        [
            {
                **_told(result.case),
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
