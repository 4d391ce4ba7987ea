"""Spans of OpenTelemetry: one for each call, and below it one for each step (`graphdriver.steps`).

Imported only if calls are traced (`graphdriver.serving.tracing`).
"""

from __future__ import annotations

import contextlib
from typing import Final, Protocol

from opentelemetry import context, trace

from graphdriver.steps import Step, watch_steps

_nothing: Final[Step] = contextlib.nullcontext()


class TracedCall(Protocol):
    """What the span of a call shows when the call ends."""

    layer: str | None
    parent: str | None
    snapshot: str | None


class Tracing:
    """Begins the spans of the calls to a driver.

    Args:
        tracer: makes the spans.
        engine: an attribute of each call's span.
        driver: likewise.
    """

    def __init__(self, tracer: trace.Tracer, engine: str, driver: str) -> None:
        self._tracer = tracer
        self._attributes = {"graphdriver.engine": engine, "graphdriver.driver": driver}
        watch_steps(self._begin_step)

    def begin(self, name: str) -> CallSpan:
        """Begin the span of a call, which this thread makes until its end.

        Args:
            name: the protocol's name for it.
        """
        return CallSpan(
            self._tracer.start_span(
                f"graphdriver.{name or 'unknown'}",
                kind=trace.SpanKind.SERVER,
                attributes=self._attributes,
            )
        )

    def _begin_step(self, name: str) -> Step:
        if not trace.get_current_span().is_recording():
            return _nothing  # a thread that makes no call, such as one that removes layers
        return self._tracer.start_as_current_span(name)


class CallSpan:
    """The span of a call: the current one of its thread until its end."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token = context.attach(trace.set_span_in_context(span))

    def end(
        self,
        call: TracedCall,
        answered: BaseException | None = None,
        cause: BaseException | None = None,
    ) -> None:
        """End the span.

        Args:
            call: what is known of the call by now.
            answered: the error that the caller gets, if the call failed.
            cause: the exception that was raised; None: the same.
        """
        for name in ("layer", "parent", "snapshot"):
            if value := getattr(call, name):
                self._span.set_attribute(f"graphdriver.{name}", value)
        if answered:
            self._span.record_exception(cause or answered)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, str(answered)))
        self._span.end()
        context.detach(self._token)
