"""Whatever a snapshotter answers, the kit fails the case and changes nothing of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from graphdriver.conformance.kit.report import explanation
from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.snapshotter.cases import GROUPS
from graphdriver.conformance.snapshotter.kit import SnapshotterSubject
from graphdriver.containerd.server import SnapshotterServer
from graphdriver.linux.mountinfo import mount_points
from tests.conformance.hostile.ground import Ground
from tests.conformance.hostile.mounts import ATTACKS, Attack

pytestmark = pytest.mark.root


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    with scratch_directory("/dev/shm", "gd-") as folder:
        found = Ground.made_in(folder)
        monkeypatch.chdir(found.canary.root)
        yield found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_case_fails_and_the_host_is_unharmed(
    attack: Attack, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = chosen(GROUPS, attack.case)
    monkeypatch.setattr(attack.planted, "ground", ground, raising=False)
    before = ground.look_at_the_victim()
    socket = f"{ground.folder}/s.sock"
    home = str(ground.home)
    with (
        SnapshotterServer(attack.planted(home), socket),
        SnapshotterSubject(socket, ground.folder, home) as subject,
        ground.canary.unharmed(),
    ):
        result = run_case(case, subject)
    assert result.outcome is Outcome.FAILED
    told = explanation(result)
    assert attack.says in told
    assert len(told) < 10_000
    assert all(one.isprintable() or one == "\n" for one in told)
    assert ground.look_at_the_victim() == before
    assert os.getcwd() == str(ground.canary.root)
    start = os.fsencode(ground.folder)
    assert not [one.point for one in mount_points() if one.point.startswith(start)]
