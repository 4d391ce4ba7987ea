"""What a case is: one thing that a plugin must do, why, and the function that checks it.

A case's docstring is what its user reads: what is checked, in one sentence. Its reason (`Reason`)
says who relies on it. Cases of one subject stand together in a `Group`, a module each below
``cases/``; a case is called ``GROUP/NAME``.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
"""What a case is given to work with."""


class Need(enum.Enum):
    """What a case cannot do without, besides the calls of the contract."""

    SOCKET = "a socket"
    """Bytes are sent as they are, and calls on several connections."""
    PROCESS = "--exec"
    """The plugin is killed and started again."""
    HOMES = "--exec or a driver in this process"
    """A second plugin that has taken up another home, or the same way with other maps."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is checked.

    Attributes:
        text: who relies on it, and what becomes of a plugin that does not do it.
        references: where that was learnt: reports, advisories, sections of a specification.
    """

    text: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case(Generic[K]):
    """One thing that is checked.

    Attributes:
        id: ``GROUP/NAME``.
        checks: what, in one sentence.
        why: who relies on it.
        needs: what it cannot be checked without.
        required: false for what a good plugin does and no daemon relies on.
        check: raises `graphdriver.conformance.kit.expect.Mismatch`, or whatever a call of the driver
            raised, if it is not so.
    """

    id: str
    checks: str
    why: Reason
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
        about: what they have in common.
    """

    name: str
    about: str
    cases: list[Case[K]] = field(default_factory=list)

    def case(
        self, why: Reason, *needs: Need, required: bool = True
    ) -> Callable[[Callable[[K], None]], Callable[[K], None]]:
        """Make a case of a function; its name and its docstring become the case's."""

        def add(check: Callable[[K], None]) -> Callable[[K], None]:
            checks = " ".join(inspect.cleandoc(check.__doc__ or "").split())
            id = f"{self.name}/{check.__name__.replace('_', '-')}"
            self.cases.append(Case(id, checks, why, frozenset(needs), required, check))
            return check

        return add
