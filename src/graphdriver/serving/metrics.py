"""Metrics for Prometheus: the figures of a served home, read when they are asked for.

A call pays nothing for them: `graphdriver.serving.figures` counts in any case. A scrape waits for no
call and no layer's lock; it asks the home's filesystem for its space.

The names and their meanings are in docs/metrics.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import graphdriver
from graphdriver.serving.figures import BUCKETS, CallFigures
from graphdriver.serving.page_server import Page
from graphdriver.serving.readiness import why_not_ready
from graphdriver.serving.served_home import ServedHome

_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")


class Metrics:
    """The metrics of a process that serves a home.

    Args:
        served: the driver and its home.
    """

    def __init__(self, served: ServedHome) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(HomeCollector(served))
        ProcessCollector(registry=self._registry)

    def page(self, accept: str) -> Page:
        """Return all metrics in a format that the caller reads.

        Args:
            accept: the request's ``Accept`` header.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except Exception:  # versions that are no numbers, among others
            encode, content_type = choose_encoder("")
        return Page(encode(self._registry), content_type)


class HomeCollector(Collector):
    """Collects the figures of a served home.

    Args:
        served: the driver and its home.
    """

    def __init__(self, served: ServedHome) -> None:
        self._served = served
        self._about = {
            "version": graphdriver.__version__,
            "driver": served.driver_name,
            "engine": served.engine,
        }

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield InfoMetricFamily("graphdriver_build", "What runs.", self._about)
        yield _gauge(
            "ready",
            "1 if calls for layers can be answered, 0 if not.",
            0 if why_not_ready(self._served) else 1,
        )
        figures = self._served.calls.figures
        yield from _calls(figures.calls_now())
        running = self._served.calls.in_flight()  # the oldest first
        yield _gauge("calls_in_flight", "Calls that have begun and not ended.", len(running))
        yield _gauge(
            "calls_waiting",
            "Calls in flight that wait for a layer which another call holds.",
            len(self._served.locks.waits()),
        )
        yield _gauge(
            "longest_call_seconds",
            "How long the oldest call in flight has been running.",
            running[0].seconds if running else 0,
        )
        yield CounterMetricFamily(
            "graphdriver_received_bytes",
            "Bytes of layers' tars that came in (ApplyDiff).",
            figures.bytes_in,
        )
        yield CounterMetricFamily(
            "graphdriver_sent_bytes",
            "Bytes of layers' tars that went out (Diff).",
            figures.bytes_out,
        )
        if figures.last_sync is not None:
            yield _gauge(
                "last_sync_timestamp_seconds",
                "When a layer or the home was last synced to disk.",
                figures.last_sync,
            )
        home = self._served.initialised_home
        if home:
            yield from _layers(self._served)
            yield from _space(home.path)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"graphdriver_{name}", meaning, value)


def _layers(served: ServedHome) -> Iterator[Metric]:
    yield _gauge("layers", "Layers in the home.", len(served.layers))
    yield _gauge(
        "unfinished_layers",
        "Layers whose transfer has not ended, or broke off.",
        len(served.unfinished()),
    )
    yield _gauge("mounts", "Mounts in the home.", sum(served.mounts().values()))
    yield _gauge(
        "references",
        "Gets without a Put, or snapshots in use.",
        sum(served.references().values()),
    )


def _calls(calls: dict[str, CallFigures]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "graphdriver_calls", "Calls that have ended.", labels=("call", "status")
    )
    errors = CounterMetricFamily(
        "graphdriver_call_errors", "Calls that have failed.", labels=("call", "kind")
    )
    seconds = HistogramMetricFamily(
        "graphdriver_call_seconds",
        "How long calls took, from the head of the request to the end of the response.",
        labels=("call",),
    )
    for name, figures in sorted(calls.items()):
        call = name or "unknown"
        failed = sum(figures.errors.values())
        ended.add_metric((call, "ok"), figures.count - failed)
        ended.add_metric((call, "error"), failed)
        for kind, count in sorted(figures.errors.items()):
            errors.add_metric((call, kind), count)
        counts = accumulate(figures.buckets)
        seconds.add_metric((call,), [*zip(_BOUNDS, counts, strict=True)], figures.seconds)
    yield ended
    yield errors
    yield seconds


def _space(path: str) -> Iterator[Metric]:
    try:
        there = os.statvfs(path)
    except OSError:
        return  # the home is gone, so the process is not ready
    space = GaugeMetricFamily(
        "graphdriver_home_bytes",
        "Space of the home's filesystem; free is what root can still write.",
        labels=("state",),
    )
    space.add_metric(("used",), (there.f_blocks - there.f_bfree) * there.f_frsize)
    space.add_metric(("free",), there.f_bfree * there.f_frsize)
    yield space
    if there.f_files:  # btrfs makes inodes as they are needed, and says 0
        inodes = GaugeMetricFamily(
            "graphdriver_home_inodes", "Inodes of the home's filesystem.", labels=("state",)
        )
        inodes.add_metric(("used",), there.f_files - there.f_ffree)
        inodes.add_metric(("free",), there.f_ffree)
        yield inodes
