"""Whatever a snapshotter answers, the kit fails the case and changes nothing of the host."""

from __future__ import annotations

import os

import pytest

from graphdriver.conformance.kit.run import chosen, run_case
from graphdriver.conformance.snapshotter.cases import GROUPS
from graphdriver.conformance.snapshotter.subject import SocketSubject
from graphdriver.containerd.server import SnapshotterServer
from graphdriver.linux.mountinfo import mount_points
from tests.conformance.kit.hostile import Attack, expect_clear, host
from tests.conformance.snapshotter.hostile import ATTACKS, Hostile

pytestmark = pytest.mark.root


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_case_fails_and_the_host_is_unharmed(
    attack: Attack[Hostile], monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = chosen(GROUPS, attack.case)
    with host(monkeypatch) as ground:
        monkeypatch.setattr(attack.planted, "ground", ground, raising=False)
        socket, home = f"{ground.directory}/s.sock", str(ground.home)
        with (
            ground.unharmed(),
            SnapshotterServer(attack.planted(home), socket),
            SocketSubject(socket, ground.directory, home) as subject,
        ):
            result = run_case(case, subject)
        expect_clear(result, attack.says)
        start = os.fsencode(ground.directory)
        assert not [one.point for one in mount_points() if one.point.startswith(start)]
