"""The metrics that a process exports, as a scraper reads them."""

from __future__ import annotations

from dataclasses import dataclass

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
