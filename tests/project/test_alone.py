from __future__ import annotations

import threading
from pathlib import Path

from tests.conftest import turn


def test_a_turn_alone_waits_for_others_and_others_for_it(tmp_path: Path) -> None:
    began, told = threading.Event(), []

    def alone() -> None:
        began.set()
        with turn(tmp_path, alone=True):
            told.append("alone")

    def other() -> None:
        with turn(tmp_path, alone=False):
            told.append("other")

    with turn(tmp_path, alone=False):
        waits = threading.Thread(target=alone)
        waits.start()
        began.wait()
        other_now = threading.Thread(target=other)
        other_now.start()
        other_now.join(0.2)
        assert "alone" not in told
    for thread in (waits, other_now):
        thread.join()
    assert sorted(told) == ["alone", "other"]
