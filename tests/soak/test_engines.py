"""Real engines work for long while their plugin and they themselves are killed, limited and starved.

``make soak SECONDS=3600`` runs it for an hour. All choices come from a seed, which is printed; the same
seed gives the same actions:

    GRAPHDRIVER_SOAK_SEED=… make soak
"""

from __future__ import annotations

import os
import secrets
import traceback

import pytest

from tests.soak.engines.report import shown
from tests.soak.engines.world import live, lives
from tests.support.ground import find_docker
from tests.support.long import LONG, times

CHOSEN = os.environ.get("GRAPHDRIVER_SOAK_SECONDS")
SECONDS = float(CHOSEN or times(gate=45, long=300))
SEED = os.environ.get("GRAPHDRIVER_SOAK_SEED") or (
    secrets.token_hex(4) if CHOSEN or LONG else "gate-16"
)
SHORTEST = 60.0
"""Seconds in which the engines can do enough on one pair of drivers."""


@pytest.mark.root
@pytest.mark.docker
@pytest.mark.timeout(3 * SECONDS + 900)
def test_nothing_is_lost_whatever_goes_wrong() -> None:
    find_docker()
    print(f"GRAPHDRIVER_SOAK_SEED={SEED}")
    failed: list[Exception] = []
    riddles: list[str] = []
    for life in lives(SEED, SECONDS, SHORTEST):
        print(life, flush=True)
        try:
            sides = live(life)
        except ExceptionGroup as error:  # the next life has other drivers, and its own disks
            traceback.print_exception(error)
            failed.append(error)
            continue
        for side in sides:
            print(shown(side), flush=True)
            riddles += side.errors.riddles
    if failed:
        raise ExceptionGroup("the engines did not get through", failed)
    assert not riddles, "\n".join(riddles)
