"""Runs cases, one after the other, and says what came of each."""

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
    """Whatever cases are run on."""

    @property
    def offers(self) -> frozenset[Need]:
        """What its cases may need."""
        ...

    def kit(self) -> AbstractContextManager[K_co]:
        """Give one case what it works with; what it left is removed at the end."""
        ...

    def written(self) -> Sequence[str]:
        """Return the last lines that the plugin has written since the last `kit`."""
        ...

    def revive(self) -> str:
        """See that the plugin is still there, start it anew if it can; tell what was found, if bad."""
        ...


class Outcome(enum.Enum):
    """What came of a case."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result(Generic[K]):
    """What came of one case.

    Attributes:
        case: the case.
        outcome: what came of it.
        seconds: how long it took.
        what: what was looked at, if it failed; what is missing, if it was not run.
        saw: what that was.
        expected: what it should have been.
        note: what became of the plugin besides, or empty.
        log: the last lines that the plugin wrote meanwhile, if it failed.
        raised: the error of a call, if that is why it failed.
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
        """Whether the plugin is not to be used for it: a required case failed."""
        return self.case.required and self.outcome is Outcome.FAILED


class Watcher(Protocol):
    """Who is told as cases are run."""

    def began(self, case: Case[K]) -> None:
        """A case begins."""
        ...

    def ended(self, result: Result[K]) -> None:
        """A case is over."""
        ...


class Clears(Protocol):
    """A kit that can remove what its case has left."""

    def clear(self) -> None:
        """Remove it; raises `Mismatch` where that does not work."""
        ...


C = TypeVar("C", bound=Clears)


@contextlib.contextmanager
def cleared(directory: Path, make: Callable[[Path], C]) -> Iterator[C]:
    """Give a kit, made with a new directory below one, for a ``with`` block; clear it at the end.

    After a case that failed, what cannot be removed says nothing new.
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


def run(cases: Iterable[Case[K]], subject: Subject[K], watcher: Watcher) -> Iterator[Result[K]]:
    """Run cases in their order, and yield each result as it is there."""
    for case in cases:
        watcher.began(case)
        # Without the error: its traceback keeps all that the case had in its hands.
        result = replace(run_case(case, subject), raised=None)
        yield result  # first: an interrupt from then on finds it among the results
        watcher.ended(result)


def chosen(groups: Sequence[Group[K]], patterns: str = "") -> list[Case[K]]:
    """Return the cases that are asked for.

    Args:
        groups: all there are.
        patterns: group names and case names with ``*`` and ``?``, separated by commas; one that
            begins with ``!`` leaves out what it fits. All cases, if none says which.

    Raises:
        MalformedRequestError: a pattern fits no case.
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
