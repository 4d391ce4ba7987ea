"""Questions to a running plugin, which are no calls: what it serves, its layers, and what it does.

An answer is JSON, the same for every engine. It is made of what the framework knows: it waits for no
layer's lock, for no Init, and for the driver half a second at most (`driver_status`). So a plugin in
which all calls are stuck still answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Final

import graphdriver
from graphdriver.serving.call_log import Call, Caller
from graphdriver.serving.figures import BUCKETS, CallFigures
from graphdriver.serving.readiness import why_not_ready
from graphdriver.serving.served_home import ServedHome
from graphdriver.serving.times import rfc3339

_LONGEST: Final = BUCKETS[-1] * 2
"""What is answered for calls that took longer than the last of `BUCKETS`, in seconds."""


def answer(served: ServedHome, question: str, daemon: Caller | None = None) -> bytes:
    """Answer a question.

    Args:
        served: what is asked about.
        question: one of `QUESTIONS`.
        daemon: the process that makes all calls which do not tell their own, if it is known.
    """
    return json.dumps(_ANSWERS[question](served, daemon)).encode()


def _status(served: ServedHome, _: Caller | None) -> dict[str, object]:
    figures = served.calls.figures
    ended = figures.calls_now()
    in_flight = [call.name for call in served.calls.in_flight()]
    not_ready = why_not_ready(served)
    return {
        "version": graphdriver.__version__,
        "engine": served.engine,
        "driver": served.driver_name,
        "home": served.path,
        "pid": os.getpid(),
        "started": _time(figures.started),
        "options": list(served.driver_options),
        "sync": "layer" if served.syncs else "none",
        "ready": not not_ready,
        "not_ready": not_ready or None,
        "calls": {
            name: _figures(ended.get(name) or CallFigures(), in_flight.count(name))
            for name in sorted({*ended, *in_flight})
        },
        "bytes_in": figures.bytes_in,
        "bytes_out": figures.bytes_out,
        "layers": len(served.layers),
        "unfinished": len(served.unfinished()),
        "mounts": sum(served.mounts().values()),
        "references": sum(served.references().values()),
        "disk": room_of(served.path),
        "last_sync": _time(figures.last_sync),
        "driver_status": served.driver_status.pairs(),
    }


def _figures(figures: CallFigures, in_flight: int) -> dict[str, object]:
    return {
        "count": figures.count,
        "errors": dict(figures.errors),
        "in_flight": in_flight,
        "p50_ms": _milliseconds(figures.quantile(0.5)),
        "p99_ms": _milliseconds(figures.quantile(0.99)),
    }


def _layers(served: ServedHome, _: Caller | None) -> list[dict[str, object]]:
    mounts = served.mounts()
    unfinished = frozenset(served.unfinished())
    references = served.references()
    return [
        {
            "id": record.id,
            "parent": record.parent,
            "created": _time(record.created),
            "applied": _time(record.applied),
            "size": record.size,
            "inodes": record.inodes,
            "gets": record.gets,
            "last_get": _time(record.last_get),
            "got_by": _peer(record.got_by),
            "mounted": record.id in mounts,
            "references": references.get(record.id, 0),
            "unfinished": record.id in unfinished,
        }
        for record in served.layers.all()
    ]


def _calls(served: ServedHome, daemon: Caller | None) -> list[dict[str, object]]:
    running = served.calls.in_flight()
    by_thread = {call.thread: call for call in running}
    waits = served.locks.waits()
    found: list[dict[str, object]] = []
    for call in running:
        wait = waits.get(call.thread)
        found.append(
            {
                "call": call.name,
                "layer": call.layer,
                "snapshot": call.snapshot,
                "parent": call.parent or None,
                "seconds": round(call.seconds, 3),
                "bytes": call.bytes,
                "waits_for": wait
                and {"layer": wait.layer, "call": _asked(by_thread.get(wait.holder))},
                "peer": _peer(call.peer or daemon),
            }
        )
    return found


_ANSWERS: Final[Mapping[str, Callable[[ServedHome, Caller | None], object]]] = {
    "status": _status,
    "layers": _layers,
    "calls": _calls,
}
QUESTIONS: Final = tuple(_ANSWERS)
"""The names of the questions; docs/operations.md describes the answers."""


def _asked(call: Call | None) -> str | None:
    """Name the call that holds a lock; None: the thread makes no call, as one that counts usage."""
    if call is None:
        return None
    subject = call.snapshot or call.layer
    return f"{call.name} {subject}" if subject else call.name


def _peer(peer: Caller | None) -> dict[str, object] | None:
    return {"pid": peer.pid, "command": peer.command} if peer else None


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(min(seconds, _LONGEST) * 1000, 3)


def room_of(home: str) -> dict[str, int] | None:
    """Return the room on the filesystem of a home, as the member ``disk``; None if it is unknown."""
    try:
        there = os.statvfs(home)
    except OSError:
        return None
    return {
        "size": there.f_blocks * there.f_frsize,
        "free": there.f_bavail * there.f_frsize,
        "inodes": there.f_files,
        "inodes_free": there.f_favail,
    }
