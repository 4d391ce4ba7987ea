"""The runner: runs cases, one after the other, and collects their results."""

from __future__ import annotations

import contextlib
import enum
import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from graphdriver.conformance.kit.case import Case, Group, K, Need
from graphdriver.conformance.kit.expect import Mismatch, NotOffered
from graphdriver.conformance.kit.raised import call_of, text_of
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.errors import GraphDriverError, MalformedRequestError

K_co = TypeVar("K_co", covariant=True)


class Subject(Protocol[K_co]):
    """A plugin, a driver or a snapshotter that cases are run on."""

    @property
    def offers(self) -> frozenset[Need]:
        """The requirements that it satisfies."""
        ...

    def kit(self) -> AbstractContextManager[K_co]:
        """Give one case its kit for a ``with`` block; remove its leftovers at the end."""
        ...

    def written(self) -> Sequence[str]:
        """Return the last lines that the plugin has written since the last `kit`."""
        ...

    def revive(self) -> str:
        """Start a plugin that has died again, if possible; return how it died, or ""."""
        ...


class Outcome(enum.Enum):
    """The outcome of a case."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result(Generic[K]):
    """The result of one case.

    Attributes:
        case: the case.
        outcome: its outcome.
        seconds: its duration.
        what: the subject of the check that failed, or the requirement that is missing.
        saw: the value of that.
        expected: the value it should have.
        note: how the plugin died during the case, or empty.
        log: the last lines that the plugin wrote during the case, if it failed.
        raised: the error of a call, if it made the case fail.
    """

    case: Case[K]
    outcome: Outcome
    seconds: float = 0.0
    what: str = ""
    saw: str = ""
    expected: str = ""
    note: str = ""
    log: Sequence[str] = ()
    raised: Exception | None = None

    @property
    def is_bad(self) -> bool:
        """Whether a required case failed."""
        return self.case.required and self.outcome is Outcome.FAILED


class Watcher(Protocol):
    """An observer of a run."""

    def began(self, case: Case[K]) -> None:
        """Handle the beginning of a case."""
        ...

    def ended(self, result: Result[K]) -> None:
        """Handle the end of a case."""
        ...


class Clears(Protocol):
    """A kit that can remove the leftovers of its case."""

    def clear(self) -> None:
        """Remove the leftovers; raise `Mismatch` if that fails."""
        ...


C = TypeVar("C", bound=Clears)


@contextlib.contextmanager
def cleared(directory: Path, make: Callable[[Path], C]) -> Iterator[C]:
    """Give a kit, made with a new directory below one, for a ``with`` block; clear it at the end.

    After a case that failed, an error of `clear` is ignored: it has the same cause.
    """
    with scratch_directory(directory) as scratch:
        kit = make(scratch)
        try:
            yield kit
        except BaseException:
            with contextlib.suppress(Exception):
                kit.clear()
            raise
        kit.clear()


def run_case(case: Case[K], subject: Subject[K]) -> Result[K]:
    """Run one case."""
    if missing := case.needs - subject.offers:
        what = "it needs " + " and ".join(sorted(need.value for need in missing))
        return Result(case, Outcome.NOT_RUN, what=what)
    began = time.monotonic()
    what = saw = expected = ""
    raised = None
    try:
        with subject.kit() as kit:
            case.check(kit)
        outcome = Outcome.PASSED
    except NotOffered as reason:
        outcome, what = Outcome.NOT_RUN, str(reason)
    except Mismatch as mismatch:
        outcome = Outcome.FAILED
        what, saw, expected = mismatch.what, mismatch.saw, mismatch.expected
    except Exception as error:
        outcome = Outcome.FAILED
        what, saw, expected, raised = call_of(error), text_of(error), "success", error
    try:
        note = subject.revive()
    except GraphDriverError as error:
        note = f"it cannot be started again: {error}"
    if note:
        outcome = Outcome.FAILED
    log = subject.written() if outcome is Outcome.FAILED else ()
    seconds = time.monotonic() - began
    return Result(case, outcome, seconds, what, saw, expected, note, log, raised)


def run(
    cases: Iterable[Case[K]], subject: Subject[K], watcher: Watcher, most_failures: int = 0
) -> Iterator[Result[K]]:
    """Run cases in their order, and yield each result as soon as it is known.

    Args:
        cases: the cases.
        subject: what they are run on.
        watcher: is told of the beginning and the end of each case.
        most_failures: the run ends when so many required cases have failed; 0: it never does.
    """
    failures = 0
    for case in cases:
        watcher.began(case)
        # Without the error: its traceback keeps every object of the case alive.
        result = replace(run_case(case, subject), raised=None)
        yield result  # before `ended`: an interrupt from here on finds it among the results
        watcher.ended(result)
        failures += result.is_bad
        if failures and failures == most_failures:
            return


def chosen(groups: Sequence[Group[K]], patterns: str = "") -> list[Case[K]]:
    """Return the selected cases.

    Args:
        groups: all groups.
        patterns: group names and case names with ``*`` and ``?``, separated by commas; one that
            begins with ``!`` leaves out its matches. Without a pattern that includes, all cases.

    Raises:
        MalformedRequestError: a pattern matches no case.
    """
    cases = [case for group in groups for case in group.cases]
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for pattern in patterns.split(",") if patterns else ():
        plain = pattern.removeprefix("!")
        fitting = {
            case.id
            for case in cases
            if fnmatch.fnmatchcase(case.id, plain) or fnmatch.fnmatchcase(case.group, plain)
        }
        if not fitting:
            raise MalformedRequestError(
                f"no case is called {plain!r}",
                hint="conform --list shows all; groups are " + ", ".join(g.name for g in groups),
            )
        (wanted if plain == pattern else unwanted).update(fitting)
    wanted = (wanted or {case.id for case in cases}) - unwanted
    return [case for case in cases if case.id in wanted]


def in_order(cases: Iterable[Case[K]], first: Sequence[str]) -> list[Case[K]]:
    """Return cases in the order in which an author solves them.

    Args:
        cases: the selected cases.
        first: the IDs of those that come first; then come the other required ones, then the optional.
    """
    ranks = {id: rank for rank, id in enumerate(first)}
    return sorted(cases, key=lambda case: (ranks.get(case.id, len(first)), not case.required))
