"""The metrics: each is documented, and its value is what happened."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from graphdriver import Client, RemoteError
from graphdriver.serving.figures import BUCKETS
from graphdriver.serving.metrics import Metrics
from tests.support.documented import ROOT
from tests.support.metrics import Samples, exported, samples
from tests.support.plugin import Plugin, served

PAGE = ROOT / "docs/metrics.md"


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    """A plugin that has answered four calls, two of them with an error."""
    with served() as plugin, Client(plugin.path, timeout=60) as client:
        client.init(plugin.home, [], [], [])
        client.create("a", "", "", {})
        for id in ("b", "c"):
            with pytest.raises(RemoteError):
                client.get(id, "")
        yield plugin


def values(plugin: Plugin) -> Samples:
    return samples(Metrics(plugin.handler.served).page("").body.decode())


def test_a_caller_that_asks_for_a_format_of_no_version_gets_the_usual_one(plugin: Plugin) -> None:
    usual = Metrics(plugin.handler.served).page("")
    for version in ("1..0", "version=1", "one"):
        page = Metrics(plugin.handler.served).page(
            f"application/openmetrics-text; version={version}"
        )
        assert page.status == usual.status
        assert samples(page.body.decode()).keys() == samples(usual.body.decode()).keys()


def test_a_call_is_counted_by_its_name_its_outcome_and_the_kind_of_its_error(
    plugin: Plugin,
) -> None:
    found = values(plugin)
    calls = {key: value for key, value in found.items() if key[0] == "graphdriver_calls_total"}
    assert {tuple(sorted(labels)): value for (_, labels), value in calls.items()} == {
        ("Create", "ok"): 1,
        ("Create", "error"): 0,
        ("Get", "ok"): 0,
        ("Get", "error"): 2,
        ("Init", "ok"): 1,
        ("Init", "error"): 0,
    }
    assert found["graphdriver_call_errors_total", frozenset(["Get", "not found"])] == 2


def test_each_call_is_in_one_bucket_and_in_all_above_it(plugin: Plugin) -> None:
    plugin.handler.served.calls.figures.ended("Get", 3.0)
    plugin.handler.served.calls.figures.ended("Get", 1e6)
    found = values(plugin)
    counts = [
        found["graphdriver_call_seconds_bucket", frozenset(["Get", str(bound)])]
        for bound in (*BUCKETS, "+Inf")
    ]
    assert counts == sorted(counts)
    assert counts[-5:] == [3, 3, 3, 3, 4]
    assert found["graphdriver_call_seconds_count", frozenset(["Get"])] == 4


def test_every_metric_is_documented_with_its_type_and_its_labels(plugin: Plugin) -> None:
    plugin.handler.served.calls.figures.last_sync = 1.0
    found = {name: (one.kind, one.labels) for name, one in exported(plugin.handler.served).items()}
    rows = re.findall(
        r"^\| `((?:graphdriver|process)_\w+)` \| (\w+)(?:; ([\w, ]+))? \|",
        PAGE.read_text(),
        re.MULTILINE,
    )
    documented = {
        name: (kind, frozenset(filter(None, labels.split(", ")))) for name, kind, labels in rows
    }
    assert documented == found
