"""The search for an order, on a thing that is plainer than a layer."""

from __future__ import annotations

from tests.soak.history import Did, State, outcomes


def step(did: Did, state: State) -> State | None:
    """A place that holds one number: ``put`` sets it, ``get`` tells it."""
    if did.call == "put":
        return did.result
    return state if did.result == state else None


def test_calls_one_after_the_other_have_one_order() -> None:
    history = [Did(0, 1, "put", 1), Did(2, 3, "put", 2), Did(4, 5, "get", 2)]
    assert outcomes(history, [0], step) == {2}
    assert outcomes([*history, Did(6, 7, "get", 1)], [0], step) == set()


def test_calls_that_overlap_may_have_come_in_any_order() -> None:
    history = [Did(0, 9, "put", 1), Did(0, 9, "put", 2), Did(0, 9, "get", 0)]
    assert outcomes(history, [0], step) == {1, 2}
    assert outcomes([*history, Did(10, 11, "get", 1)], [0], step) == {1}


def test_what_was_seen_is_never_seen_otherwise_before() -> None:
    history = [Did(0, 9, "put", 1), Did(1, 2, "get", 1), Did(3, 4, "get", 0)]
    assert outcomes(history, [0], step) == set()


def test_any_of_the_states_before_may_explain_what_came() -> None:
    assert outcomes([Did(0, 1, "get", 7)], [3, 7, 9], step) == {7}
    assert outcomes([], [3, 7], step) == {3, 7}
