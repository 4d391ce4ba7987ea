"""A fault: one thing that is wrong, and the case that must fail by it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")
Q = TypeVar("Q")


@dataclass(frozen=True)
class Fault(Generic[P]):
    """One thing that is wrong.

    Attributes:
        name: what the program that serves it calls it.
        tells: what is wrong, in a sentence.
        case: the case that must fail by it.
        planted: where.
    """

    name: str
    tells: str
    case: str
    planted: type[P]


class Faults(list[Fault[P]]):
    """The faults of one kit."""

    def caught_by(self, case: str) -> Callable[[type[Q]], type[Q]]:
        """Make a fault of a class; its name and its docstring become the fault's."""

        def add(planted: type[Q]) -> type[Q]:
            boundary = "(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
            name = re.sub(boundary, "-", planted.__name__).lower()
            self.append(Fault(name, planted.__doc__ or "", case, planted))  # type: ignore[arg-type]
            return planted

        return add
