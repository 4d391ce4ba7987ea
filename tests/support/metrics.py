"""The metrics that a process exports, as a scraper reads them, and the log of the same calls."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as read_text

from graphdriver.serving.metrics import Metrics
from graphdriver.serving.served_home import ServedHome

_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_SUFFIXES = {"counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_count", "_sum")}

Samples = dict[tuple[str, frozenset[str]], float]


@dataclass(frozen=True)
class Exported:
    """A metric: its type in Prometheus, its labels, and the names of its series."""

    kind: str
    labels: frozenset[str]
    series: frozenset[str]


def exported(served: ServedHome) -> dict[str, Exported]:
    """Return the metrics of a served home that has answered calls, by the names in docs/metrics.md."""
    text = Metrics(served).page(_OPENMETRICS).body.decode()
    found = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        series = [family.name + suffix for suffix in _SUFFIXES.get(family.type, ("",))]
        name = series[0] if len(series) == 1 else family.name
        kind = "gauge" if family.type == "info" else family.type
        labels = frozenset(family.samples[0].labels) - {"le"}
        found[name] = Exported(kind, labels, frozenset(series))
    return found


def samples(text: str) -> Samples:
    """Return the value of each sample of a page, by its name and the values of its labels."""
    return {
        (one.name, frozenset(one.labels.values())): one.value
        for family in read_text(text)
        for one in family.samples
    }


def port_of(log: Path) -> int:
    """Return the port of this machine on which a process says that it serves its metrics."""
    deadline = time.monotonic() + 60
    while not (found := re.search(r"metrics on http://127\.0\.0\.1:(\d+)", log.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(found[1])


def page(port: int, path: str) -> tuple[int, str]:
    """Return the status and the content of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def scraped(port: int) -> Samples:
    """Return the samples that a scrape gets."""
    status, text = page(port, "/metrics")
    assert status == 200, text
    return samples(text)


@contextlib.contextmanager
def scraping(port: int) -> Iterator[list[Samples]]:
    """Scrape again and again for the length of a ``with`` block; yield what is got."""
    got: list[Samples] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            got.append(scraped(port))
            over.wait(0.05)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield got
    finally:
        over.set()
        thread.join()


def falling(got: list[Samples]) -> set[str]:
    """Return the counters that have become smaller from one scrape to a later one."""
    return {
        name
        for before, after in pairwise(got)
        for (name, labels), value in before.items()
        if name.endswith(("_total", "_bucket", "_count", "_sum"))
        if after.get((name, labels), 0) < value
    }


def counted(found: Samples) -> Counter[tuple[str, str]]:
    """Return how many calls the metrics count, by name and status."""
    calls: Counter[tuple[str, str]] = Counter()
    for (name, labels), value in found.items():
        if name == "graphdriver_calls_total":
            (status,) = labels & {"ok", "error"}
            (call,) = labels - {status}
            calls[call, status] += int(value)
    return +calls


def logged(log: Path) -> Counter[tuple[str, str]]:
    """Return how many calls a log has (``-v --log-format json``), by name and status."""
    calls: Counter[tuple[str, str]] = Counter()
    for line in log.read_text().splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if "call" in said and "status" in said:
            calls[said["call"], "ok" if said["status"] in (200, "OK") else "error"] += 1
    return calls


def value(found: Samples, name: str, *labels: str) -> float:
    """Return the value of a sample by its name and the values of its labels."""
    return found[f"graphdriver_{name}", frozenset(labels)]
