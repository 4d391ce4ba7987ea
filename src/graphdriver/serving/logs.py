"""The log: to stderr, for people or for machines.

A record may have members of its own in ``extra={"graphdriver": {...}}``, such as a call's layer and
duration. Every other record of a thread that makes a call has that call and its layer as members, also
one that a driver has logged. As text members follow the message as ``key=value``; as JSON each line is
one object, and they are members of it.

Many of the logged texts come from callers. So in text lines, control characters are escaped: no layer's
name can look like a line of the log.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping
from typing import Final, Literal

from graphdriver.printable import printable
from graphdriver.serving.call_log import current_call
from graphdriver.serving.times import rfc3339

Form = Literal["text", "json"]
"""How lines are written."""

_log = logging.getLogger("graphdriver")


def set_up(*, verbose: bool, form: Form) -> None:
    """Send the log of the whole process to stderr.

    Args:
        verbose: log everything, each call too; otherwise INFO and above.
        form: how lines are written.
    """
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(FORMATTERS[form]())
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable


def _log_uncaught(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        _log.error("a thread died", exc_info=what.exc_value)


def _log_unraisable(what: sys.UnraisableHookArgs) -> None:
    _log.error(
        "%s: %r", what.err_msg or "an exception was lost", what.object, exc_info=what.exc_value
    )


def _members(record: logging.LogRecord) -> Mapping[str, object]:
    own = getattr(record, "graphdriver", None)
    members = own if isinstance(own, Mapping) else {}
    call = None if "call" in members else current_call()
    return {**members, **call.subject()} if call else members


class _JSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_members(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [rfc3339(record.created), f"{record.levelname:<7}", printable(record.getMessage())]
        words += [f"{key}={_value(value)}" for key, value in _members(record).items()]
        line = " ".join(words)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text)


FORMATTERS: Final = {"text": _Text, "json": _JSON}
