"""The pages that programs watch wait for nothing that a plugin waits for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest

from graphdriver import Client
from graphdriver.serving.watch_pages import READERS, pages_of
from tests.support.metrics import samples, value
from tests.support.plugin import served
from tests.support.waiting import wait_until


def test_a_scrape_waits_for_no_call_and_counts_those_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end = threading.Event()
    with served() as plugin, ThreadPoolExecutor() as callers:
        with Client(plugin.path, timeout=60) as client:
            client.init(plugin.home, [], [], [])
            client.create("a", "", "", {})
        monkeypatch.setattr(plugin.box, "exists", lambda _id: may_end.wait(60))
        metrics = pages_of(plugin.handler.served)["/metrics"]

        def exists() -> bool:
            with Client(plugin.path, timeout=60) as client:
                return client.exists("a")

        calls = [callers.submit(exists) for _ in range(3)]
        wait_until(lambda: value(samples(metrics("").body.decode()), "calls_waiting") == 2)
        found = samples(metrics("").body.decode())
        assert value(found, "calls_in_flight") == 3
        assert value(found, "longest_call_seconds") > 0
        may_end.set()
        assert all(call.result() for call in calls)
        wait_until(lambda: not value(samples(metrics("").body.decode()), "calls_in_flight"))
        found = samples(metrics("").body.decode())
        assert value(found, "calls_waiting") == value(found, "longest_call_seconds") == 0


def test_where_the_homes_filesystem_hangs_the_process_is_still_seen_to_be_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging, may_end = threading.Semaphore(0), threading.Event()
    real = os.statvfs

    def hang(path: str) -> os.statvfs_result:
        hanging.release()
        may_end.wait(60)
        return real(path)

    with served() as plugin, ThreadPoolExecutor() as readers:
        with Client(plugin.path, timeout=60) as client:
            client.init(plugin.home, [], [], [])
        pages = pages_of(plugin.handler.served)
        monkeypatch.setattr(os, "statvfs", hang)
        waiting = [readers.submit(pages["/metrics"], "") for _ in range(READERS)]
        for _ in waiting:
            assert hanging.acquire(timeout=60)
        for path in ("/metrics", "/readyz"):
            refused = pages[path]("")
            assert refused.status == HTTPStatus.SERVICE_UNAVAILABLE
            assert refused.body == b"4 requests wait for the home's filesystem already\n"
        assert pages["/healthz"]("").status == HTTPStatus.OK
        may_end.set()
        assert {one.result().status for one in waiting} == {HTTPStatus.OK}
        assert pages["/readyz"]("").body == b"ready\n"
