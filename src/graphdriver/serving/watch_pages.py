"""The pages by which programs watch a process that serves a home.

- ``/metrics``: metrics for Prometheus.
- ``/healthz``: answers as long as the process does.
- ``/readyz``: 200 if calls for layers can be answered; otherwise 503 and the reason.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Final

from graphdriver.serving.metrics import Metrics
from graphdriver.serving.page_server import MakePage, Page
from graphdriver.serving.readiness import why_not_ready
from graphdriver.serving.served_home import ServedHome

READERS: Final = 4
"""How many pages that ask the home's filesystem are made at a time. If it hangs, further ones are
refused, and ``/healthz`` still answers."""


def pages_of(served: ServedHome) -> dict[str, MakePage]:
    """Return the pages by their paths.

    Args:
        served: what is watched.
    """

    def ready(_accept: str) -> Page:
        why = why_not_ready(served)
        return _unavailable(f"not ready: {why}") if why else Page(b"ready\n")

    readers = threading.BoundedSemaphore(READERS)
    return {
        "/metrics": _limited(Metrics(served).page, readers),
        "/healthz": lambda _accept: Page(b"alive\n"),
        "/readyz": _limited(ready, readers),
    }


def _limited(make: MakePage, readers: threading.BoundedSemaphore) -> MakePage:
    def make_or_refuse(accept: str) -> Page:
        if not readers.acquire(blocking=False):
            return _unavailable(f"{READERS} requests wait for the home's filesystem already")
        try:
            return make(accept)
        finally:
            readers.release()

    return make_or_refuse


def _unavailable(why: str) -> Page:
    return Page(f"{why}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
