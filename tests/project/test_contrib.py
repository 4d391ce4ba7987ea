"""What is in ``contrib`` works: the alert rules, and the dashboard, with the metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client, RemoteError
from tests.support.documented import ROOT
from tests.support.ground import tool
from tests.support.metrics import exported
from tests.support.plugin import served

PROMETHEUS = ROOT / "contrib/prometheus"
DASHBOARD = ROOT / "contrib/grafana/graphdriver.json"


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("promtool"), *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_prometheus_takes_the_rules_and_they_do_what_their_tests_say(words: tuple[str]) -> None:
    done = promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_in_one_of_its_tests() -> None:
    rules = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())
    tests = (PROMETHEUS / "alerts_test.yml").read_text()
    fires = re.findall(r"- alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n +- ", tests)
    assert len(rules) > 10
    assert {*rules} == {*fires}


def queries() -> list[str]:
    """Return the queries of the dashboard, with a value for each of its variables."""

    def inside(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            for name, value in part.items():
                if name == "expr":
                    yield value
                yield from inside(value)
        elif isinstance(part, list):
            for value in part:
                yield from inside(value)

    found = inside(json.loads(DASHBOARD.read_text()))
    return [query.replace("$__rate_interval", "1m") for query in found]


def test_each_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    records = [{"record": f"query:{at}", "expr": query} for at, query in enumerate(queries())]
    assert len(records) > 20
    # JSON is YAML.
    rules.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
    done = promtool("check", "rules", str(rules))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_panel_of_the_dashboard_has_a_place_of_its_own() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]


def test_no_metric_is_named_that_is_not_exported() -> None:
    with served() as plugin, Client(plugin.path, timeout=60) as client:
        client.init(plugin.home, [], [], [])
        with pytest.raises(RemoteError):
            client.get("missing", "")
        plugin.handler.served.calls.figures.last_sync = 1.0
        series = {name for one in exported(plugin.handler.served).values() for name in one.series}
    texts = "\n".join([*queries(), *(file.read_text() for file in PROMETHEUS.glob("alerts*.yml"))])
    named = {*re.findall(r"\b(?:graphdriver|process)_\w+", texts)}
    assert len(named) > 10
    assert not named - series
    unused = {name for name in series if name.startswith("graphdriver_")} - named
    assert unused <= {"graphdriver_call_seconds_count", "graphdriver_call_seconds_sum"}
