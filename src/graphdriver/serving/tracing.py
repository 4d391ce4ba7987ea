"""Whether calls are traced with OpenTelemetry; `graphdriver.serving.spans` traces them.

Without a tracer provider nothing of OpenTelemetry is imported or called. A provider is set by the
program that calls `graphdriver.serve`, by ``opentelemetry-instrument``, or by the variable
``OTEL_PYTHON_TRACER_PROVIDER``. This is looked at once, when a driver is about to be served.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import graphdriver

if TYPE_CHECKING:
    from graphdriver.serving.spans import Tracing

_PROVIDER: Final = "OTEL_PYTHON_TRACER_PROVIDER"


def tracing_of(engine: str, driver: str) -> Tracing | None:
    """Return what traces the calls to a driver; None if no tracer provider is set.

    Args:
        engine: an attribute of each call's span.
        driver: likewise.
    """
    # Whoever has set a provider has imported this module.
    if "opentelemetry.trace" not in sys.modules and _PROVIDER not in os.environ:
        return None
    from opentelemetry import trace

    from graphdriver.serving.spans import Tracing

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return Tracing(provider.get_tracer("graphdriver", graphdriver.__version__), engine, driver)
