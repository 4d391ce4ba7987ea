"""Whatever a plugin answers, the kit fails the case and changes nothing of the host."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Handler, Server, UnixListener
from graphdriver.conformance.kit import scratch
from graphdriver.conformance.kit.report import explanation
from graphdriver.conformance.kit.run import Outcome, Result, chosen, run_case
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.plugin import kit as kit_of_cases
from graphdriver.conformance.plugin import subject as subjects
from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.cases import GROUPS
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.conformance.plugin.subject import SocketSubject
from graphdriver.docker.address.discovery import Address
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.linux.mount import MS_BIND, mount, unmount
from tests.conformance.faults.proxy import Proxy, ProxyServer
from tests.conformance.hostile.answers import ATTACKS, Attack, Hostile
from tests.conformance.hostile.ground import Ground

pytestmark = pytest.mark.root

LONGEST_EXPLANATION = 10_000


@pytest.fixture(scope="module")
def served() -> Iterator[ProxyServer]:
    """A plugin that works, behind what a test puts there."""
    with scratch_directory("/dev/shm", "gd-") as folder:
        handler = Handler(VfsDriver())
        with (
            Server(handler, [UnixListener(f"{folder}/whole.sock")]) as server,
            ProxyServer(f"{folder}/p.sock", f"{folder}/whole.sock", Proxy) as between,
        ):
            threads = [
                threading.Thread(target=one)
                for one in (server.serve_forever, between.serve_forever)
            ]
            for thread in threads:
                thread.start()
            yield between
            between.shutdown()
            server.stop()
            for thread in threads:
                thread.join()


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    with scratch_directory("/dev/shm", "gd-") as folder:
        found = Ground.made_in(folder)
        # What is relative, and what is not said, must not lead here either.
        monkeypatch.chdir(found.canary.root)
        Hostile.ground = found
        yield found


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make limits that are reached at once; that they are kept is what is tested."""
    monkeypatch.setattr(subjects, "ANSWER_IN", 1.0)
    monkeypatch.setattr(wire, "TIMEOUT", 1.0)
    monkeypatch.setattr(wire, "LONGEST_ANSWER", 4 << 20)
    monkeypatch.setattr(kit_of_cases, "_LONGEST_DIFF", 8 << 20)
    monkeypatch.setattr(kit_of_cases, "_DIFF_IN", 1.0)


@contextlib.contextmanager
def examined(served: ProxyServer, ground: Ground, kind: type[Proxy]) -> Iterator[SocketSubject]:
    """Give the plugin, which turns hostile when it is told its home."""
    served.kind = Proxy
    address = Address.parse(str(served.server_address))
    with SocketSubject(address, ground.folder, str(ground.home)) as subject:
        served.kind = kind
        subject._client.close()  # each connection is of the kind that it began with
        try:
            yield subject
        finally:
            served.kind = Proxy
            subject._client.close()


def expect_clear(result: Result[Kit], says: str) -> None:
    assert result.outcome is Outcome.FAILED
    told = explanation(result)
    assert says in told
    assert len(told) < LONGEST_EXPLANATION
    assert all(one.isprintable() or one == "\n" for one in told)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_case_fails_and_the_host_is_unharmed(
    attack: Attack, served: ProxyServer, ground: Ground
) -> None:
    (case,) = chosen(GROUPS, attack.case)
    before = ground.look_at_the_victim()
    with examined(served, ground, attack.planted) as subject, ground.canary.unharmed():
        result = run_case(case, subject)
    expect_clear(result, attack.says)
    assert ground.look_at_the_victim() == before
    assert os.getcwd() == str(ground.canary.root)


def test_a_plugin_that_says_yes_to_everything_fails_every_case_that_needs_a_layer(
    served: ProxyServer, ground: Ground
) -> None:
    (always,) = [one.planted for one in ATTACKS if one.name == "an empty object, always"]
    cases = [
        case
        for case in chosen(GROUPS, "!activation/idle*,!leftovers")
        if case.needs <= SocketSubject.offers
    ]
    with examined(served, ground, always) as subject, ground.canary.unharmed():
        results = [run_case(case, subject) for case in cases]
    passed = [result.case.id for result in results if result.outcome is Outcome.PASSED]
    assert len(passed) < 20, passed
    assert not any(result.seconds > 30 for result in results)


def test_what_is_mounted_in_a_temporary_directory_outlives_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount_the_host(place: Path) -> None:
        for name in ("a", "b"):
            (place / name / "deep").mkdir(parents=True)
            (place / name / "file").write_text("x")
            mount(str(ground.canary.root), str(place / name / "deep"), "", MS_BIND, "")
        mount(str(ground.canary.root), str(place), "", MS_BIND, "")

    with ground.canary.unharmed(), scratch_directory(ground.folder) as one:
        mount_the_host(one)
    assert not one.exists()
    # A plugin that mounts faster than it is unmounted.
    with monkeypatch.context() as patch, ground.canary.unharmed():
        patch.setattr(scratch, "unmount", lambda *_: None)
        with scratch_directory(ground.folder) as other:
            mount_the_host(other)
    unmount(str(other))
    assert (other / "a" / "deep" / "folder" / "file").exists()
