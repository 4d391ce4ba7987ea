"""A case: one rule for a plugin, the reason for it, and the function that checks it.

A case's docstring is its text for users: the rule in one sentence, an empty line, and the reason: who
relies on the rule, and what happens when a plugin breaks it. Cases of one subject are a `Group`, in one
module below ``cases/``. A case's name is ``GROUP/NAME``.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
"""The kit that a case works with."""


class Need(enum.Enum):
    """A requirement of a case, besides the calls of the contract."""

    SOCKET = "a socket"
    """Raw bytes are sent, and calls on several connections."""
    PROCESS = "--exec"
    """The plugin is killed and restarted."""
    HOMES = "--exec or a driver in this process"
    """A second plugin with another home, options or ID maps."""
    CONTENT = "--content"
    """The kit serves the content store that a snapshotter's diff service asks."""
    REBASE = "--rebase"
    """The snapshotter can give a snapshot its parent with Commit."""


@dataclass(frozen=True, slots=True)
class Case(Generic[K]):
    """One rule.

    Attributes:
        id: ``GROUP/NAME``.
        checks: the rule, in one sentence.
        why: the reason for it.
        references: the addresses of its sources.
        needs: the requirements without which it cannot be checked.
        required: false for a rule that a good plugin keeps and no daemon relies on.
        check: raises `graphdriver.conformance.kit.expect.Mismatch`, or the error of a driver's call,
            if a plugin breaks the rule.
    """

    id: str
    checks: str
    why: str
    references: tuple[str, ...]
    needs: frozenset[Need]
    required: bool
    check: Callable[[K], None]

    @property
    def group(self) -> str:
        """The group's name."""
        return self.id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Group(Generic[K]):
    """Cases of one subject.

    Attributes:
        name: one word, or several with hyphens.
        about: their subject, in a few words.
    """

    name: str
    about: str
    cases: list[Case[K]] = field(default_factory=list)

    def case(
        self, *needs: Need, see: tuple[str, ...] = (), required: bool = True
    ) -> Callable[[Callable[[K], None]], Callable[[K], None]]:
        """Make a case of a function; its name and its docstring become the case's.

        Args:
            needs: the requirements without which it cannot be checked.
            see: the addresses of its sources.
            required: false for a rule that no daemon relies on.
        """

        def add(check: Callable[[K], None]) -> Callable[[K], None]:
            checks, _, why = (
                " ".join(part.split())
                for part in inspect.cleandoc(check.__doc__ or "").partition("\n\n")
            )
            id = f"{self.name}/{check.__name__.replace('_', '-')}"
            self.cases.append(Case(id, checks, why, see, frozenset(needs), required, check))
            return check

        return add
