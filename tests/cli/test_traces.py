"""Spans of OpenTelemetry: a call is one, and its steps are below it, if a provider is set."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import grpc
import pytest

from graphdriver import Client, RemoteError
from graphdriver.conformance.plugin import tars
from tests.support.command import Serving
from tests.support.snapshotter import Snapshotter

pytestmark = pytest.mark.root

TAR = tars.tar(tars.directory(b"etc"), tars.file(b"etc/hosts", b"127.0.0.1 localhost\n"))

PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from graphdriver.cli.main import main

def line(span):
    return span.to_json(indent=None) + "\\n"

provider = TracerProvider()
exporter = ConsoleSpanExporter(out=open({spans!r}, "w", buffering=1), formatter=line)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
sys.exit(main())
"""


class Span:
    """A span as it was exported."""

    def __init__(self, line: str) -> None:
        said = json.loads(line)
        self.name: str = said["name"]
        self.kind: str = said["kind"]
        self.id: str = said["context"]["span_id"]
        self.above: str | None = said["parent_id"]
        self.attributes: dict[str, str] = said["attributes"]
        self.status: dict[str, str] = said["status"]
        self.events: list[dict[str, object]] = said["events"]
        self.times: tuple[str, str] = said["start_time"], said["end_time"]


def spans(file: Path) -> tuple[dict[tuple[str, str], Span], dict[tuple[str, str], list[str]]]:
    """Return the spans of calls by name and layer, and the names of the steps in each as they ended."""
    found = [Span(line) for line in file.read_text().splitlines()]
    above = {one.id: one.above for one in found}
    calls, steps = {}, {}
    for one in (one for one in found if one.above is None):
        key = one.name, one.attributes.get("graphdriver.layer", "")
        below = [step for step in found if one.id in (step.above, above.get(step.above or ""))]
        assert all(one.times[0] <= step.times[0] <= step.times[1] <= one.times[1] for step in below)
        calls[key], steps[key] = one, [step.name for step in below]
    return calls, steps


@pytest.mark.parametrize(
    ("driver", "write", "mount"),
    [
        ("overlay2", ["write"], ["mount"]),
        ("erofs", ["mount", "write"], ["mount"]),  # the image that was written
        ("vfs", ["write"], []),
    ],
)
def test_a_call_is_a_span_with_its_layer_and_its_steps_are_below_it(
    folder: Path, driver: str, write: list[str], mount: list[str]
) -> None:
    program = [sys.executable, "-c", PROGRAM.format(spans=str(folder / "spans"))]
    traced = Serving(folder, driver, program=program).ready()
    with Client(traced.socket, timeout=60) as client:
        client.init(f"{folder}/home", [], [], [])
        for id, parent in (("a", ""), ("b", "a")):
            client.create(id, parent, "", {})
            client.apply_diff(id, parent, io.BytesIO(TAR))
        client.get("b", "")
        client.put("b")
        with client.diff("b", "a") as stream:
            while stream.read(65536):
                pass
        with pytest.raises(RemoteError):
            client.get("missing", "")
        client.cleanup()
    assert traced.end() == 0
    calls, steps = spans(folder / "spans")
    shown = {"graphdriver.engine": "docker", "graphdriver.driver": driver}
    shown |= {"graphdriver.layer": "b", "graphdriver.parent": "a"}
    assert calls["graphdriver.ApplyDiff", "b"].attributes == shown
    assert calls["graphdriver.ApplyDiff", "b"].kind == "SpanKind.SERVER"
    assert {key: names for key, names in steps.items() if key[1] != "a"} == {
        ("graphdriver.Init", ""): ["parse"],
        ("graphdriver.Create", "b"): ["parse"],
        ("graphdriver.ApplyDiff", "b"): ["parse", *write, "sync"],
        ("graphdriver.Get", "b"): ["parse", *mount],
        ("graphdriver.Put", "b"): ["parse"],
        ("graphdriver.Diff", "b"): ["parse"],
        ("graphdriver.Get", "missing"): ["parse"],
        ("graphdriver.Cleanup", ""): ["parse"],
    }
    failed = calls["graphdriver.Get", "missing"]
    said = "get missing: the layer does not exist"
    assert failed.status == {"status_code": "ERROR", "description": said}
    assert [event["name"] for event in failed.events] == ["exception"]
    assert calls["graphdriver.Get", "b"].status == {"status_code": "UNSET"}


def test_a_snapshotters_calls_are_spans_with_the_snapshots_layer_and_key(folder: Path) -> None:
    program = [sys.executable, "-c", PROGRAM.format(spans=str(folder / "spans"))]
    with Snapshotter(folder, "overlay2", program=program) as one:
        one.calls.prepare("active")
        one.calls.commit("committed", "active")
        with pytest.raises(grpc.RpcError):
            one.calls.mounts("missing")
    calls, steps = spans(folder / "spans")
    assert {(name, *one.attributes.values()) for (name, _), one in calls.items()} == {
        ("graphdriver.Prepare", "containerd", "overlay2", "1", "active"),
        ("graphdriver.Commit", "containerd", "overlay2", "1", "active"),
        ("graphdriver.Mounts", "containerd", "overlay2", "missing"),
    }
    assert steps["graphdriver.Commit", "1"] == ["sync"]
    assert calls["graphdriver.Mounts", ""].status["status_code"] == "ERROR"
