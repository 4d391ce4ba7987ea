"""Whatever a plugin answers, the kit fails the case and changes nothing of the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.plugin import kit as kit_of_cases
from graphdriver.conformance.plugin import subject as subjects
from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.cases import GROUPS
from graphdriver.conformance.plugin.subject import SocketSubject
from graphdriver.docker.address.discovery import Address
from tests.conformance.kit.hostile import Attack, Ground, expect_clear, host
from tests.conformance.plugin.faults.proxy import Proxy, ProxyServer
from tests.conformance.plugin.hostile import ATTACKS, Hostile
from tests.conformance.plugin.served import served

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def plugin() -> Iterator[ProxyServer]:
    """A plugin that works, behind what a test puts there."""
    with scratch_directory("/dev/shm", "gd-") as directory, served(Proxy, directory) as plugin:
        yield plugin


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    with host(monkeypatch) as found:
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
def examined(plugin: ProxyServer, ground: Ground, kind: type[Proxy]) -> Iterator[SocketSubject]:
    """Give the plugin, which turns hostile when it is told its home."""
    plugin.kind = Proxy
    address = Address.parse(str(plugin.server_address))
    with SocketSubject(address, ground.directory, str(ground.home)) as subject:
        plugin.kind = kind
        subject._client.close()  # each connection is of the kind that it began with
        try:
            yield subject
        finally:
            plugin.kind = Proxy
            subject._client.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_case_fails_and_the_host_is_unharmed(
    attack: Attack[Hostile], plugin: ProxyServer, ground: Ground
) -> None:
    (case,) = chosen(GROUPS, attack.case)
    with ground.unharmed(), examined(plugin, ground, attack.planted) as subject:
        result = run_case(case, subject)
    expect_clear(result, attack.says)


def test_a_plugin_that_says_yes_to_everything_fails_every_case_that_needs_a_layer(
    plugin: ProxyServer, ground: Ground
) -> None:
    (always,) = [one.planted for one in ATTACKS if one.name == "an empty object, always"]
    cases = [
        case
        for case in chosen(GROUPS, "!activation/idle*,!leftovers")
        if case.needs <= SocketSubject.offers
    ]
    with examined(plugin, ground, always) as subject, ground.canary.unharmed():
        results = [run_case(case, subject) for case in cases]
    passed = [result.case.id for result in results if result.outcome is Outcome.PASSED]
    assert len(passed) < 20, passed
    assert not any(result.seconds > 30 for result in results)
