"""Which calls for a layer wait for which others."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from graphdriver.locks import HeldLock, LayerLocks
from tests.support.waiting import wait_until


class Caller:
    """Holds a lock in a thread of its own until it is told to let go."""

    def __init__(self, hold: HeldLock) -> None:
        self.is_in = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(hold,))
        self._thread.start()

    def _run(self, hold: HeldLock) -> None:
        with hold:
            self.is_in.set()
            assert self._leave.wait(60)

    def leaves(self) -> None:
        self._leave.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def got_in(caller: Caller) -> bool:
    return caller.is_in.wait(60)


def waits(caller: Caller) -> bool:
    return not caller.is_in.wait(0.1)


def pair(first: HeldLock, second: HeldLock) -> tuple[Caller, Caller]:
    one = Caller(first)
    assert got_in(one)
    return one, Caller(second)


def expect(waiting: bool, first: Callable[[], HeldLock], second: Callable[[], HeldLock]) -> None:
    """See whether a call waits for another, in both orders."""
    for one, other in ((first, second), (second, first)):
        earlier, later = pair(one(), other())
        assert waits(later) if waiting else got_in(later)
        earlier.leaves()
        assert got_in(later)
        later.leaves()


def test_one_call_at_a_time_for_each_layer_and_others_together() -> None:
    locks = LayerLocks()
    expect(True, lambda: locks.held("a"), lambda: locks.held("a"))
    expect(True, lambda: locks.held("a"), lambda: locks.held("a", "b"))
    expect(True, lambda: locks.held("a", "b"), lambda: locks.held("a", "c"))
    expect(False, lambda: locks.held("a"), lambda: locks.held("b"))


def test_many_calls_share_a_layer_while_another_one_owns_it() -> None:
    locks = LayerLocks()
    expect(False, lambda: locks.held("b", "a"), lambda: locks.held("c", "a"))
    expect(False, lambda: locks.held("b", "a"), lambda: locks.held("a"))
    expect(False, lambda: locks.held("b", "a", exclusive=True), lambda: locks.held("a"))


def test_no_call_shares_a_layer_that_another_one_has_exclusively() -> None:
    locks = LayerLocks()
    expect(True, lambda: locks.held("b", "a"), lambda: locks.held("a", exclusive=True))
    expect(True, lambda: locks.held("a", "b"), lambda: locks.held("b", exclusive=True))
    expect(False, lambda: locks.held("b", "c"), lambda: locks.held("a", exclusive=True))
    expect(False, lambda: locks.held("b", ""), lambda: locks.held("a", exclusive=True))


def test_an_exclusive_call_waits_for_all_that_share_the_layer() -> None:
    locks = LayerLocks()
    sharing = [Caller(locks.held(name, "a")) for name in "bcd"]
    assert all(map(got_in, sharing))
    exclusive = Caller(locks.held("a", exclusive=True))
    for one in sharing:
        assert waits(exclusive)
        one.leaves()
    assert got_in(exclusive)
    exclusive.leaves()


def test_a_layer_may_be_named_as_its_own_parent() -> None:
    locks = LayerLocks()
    for exclusive in (False, True):
        with locks.held("a", "a", exclusive=exclusive):
            pass


def test_no_lock_is_kept_for_a_layer_that_no_call_uses() -> None:
    locks = LayerLocks()
    with locks.held("a", "b", exclusive=True):
        assert set(locks._locks) == {"a", "b"}
    assert locks._locks == {}


def test_calls_that_name_each_others_layers_as_parents_never_wait_for_each_other() -> None:
    locks = LayerLocks()
    inside: dict[str, int] = {}
    sharing: dict[str, int] = {}
    wrong: list[str] = []
    guard = threading.Lock()
    done = []

    def run(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(400):
            id, parent = chance.choice("abc"), chance.choice("abc")
            exclusive = chance.random() < 0.5
            with locks.held(id, parent, exclusive=exclusive):
                with guard:
                    inside[id] = inside.get(id, 0) + (100 if exclusive else 1)
                    if parent != id:
                        sharing[parent] = sharing.get(parent, 0) + 1
                        if inside.get(parent, 0) >= 100:
                            wrong.append(
                                f"{id} shares {parent}, which another call has exclusively"
                            )
                    if inside[id] not in (1, 100) or (exclusive and sharing.get(id)):
                        wrong.append(f"{id} is not locked exclusively")
                time.sleep(0)
                with guard:
                    inside[id] -= 100 if exclusive else 1
                    if parent != id:
                        sharing[parent] -= 1
        done.append(seed)

    threads = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(done) == len(threads) or wrong)
    assert wrong == []


@pytest.mark.parametrize("fails", ["acquire", "share"])
@pytest.mark.parametrize(("id", "parent"), [("a", "b"), ("b", "a")])
def test_a_lock_that_fails_half_way_is_released(
    monkeypatch: pytest.MonkeyPatch, fails: str, id: str, parent: str
) -> None:
    locks = LayerLocks()

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken, pytest.raises(MemoryError):
        broken.setattr(locks, fails, fail)
        with locks.held(id, parent):
            pass
    assert not locks._locks
