"""What all runs of the kit have in common here."""

from __future__ import annotations

import pytest

from graphdriver.conformance.plugin.cases import leftovers
from tests.support.long import times


@pytest.fixture(autouse=True)
def fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat calls so often that a file left open by each of them shows."""
    monkeypatch.setattr(leftovers, "_ROUNDS", times(gate=60, long=200))
