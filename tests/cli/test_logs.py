"""How a line of the log is written."""

from __future__ import annotations

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from graphdriver.serving import logs

log = logging.getLogger("graphdriver.calls")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Give the process its own logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hook, unraisable = threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    threading.excepthook, sys.unraisablehook = hook, unraisable
    logging.captureWarnings(False)


def failed(layer: str) -> None:
    members = {"call": "Get", "layer": layer, "ms": 0.5, "status": 500}
    log.warning("get %s: no such layer", layer, extra={"graphdriver": members})


def test_as_text_members_follow_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(verbose=False, form="text")
    failed("a")
    time, _, rest = capsys.readouterr().err.partition(" ")
    assert time.endswith("Z")
    assert rest == "WARNING get a: no such layer call=Get layer=a ms=0.5 status=500\n"


def test_as_text_no_layers_name_passes_for_a_line_or_a_member(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(verbose=False, form="text")
    failed("a status=200\nERROR\x1b[2J")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert 'layer="a status=200\\nERROR\\u001b[2J" ' in said


def test_as_json_a_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(verbose=False, form="json")
    failed("a\n\udc80")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "warning",
        "message": "get a\n\udc80: no such layer",
        "call": "Get",
        "layer": "a\n\udc80",
        "ms": 0.5,
        "status": 500,
    }


def test_calls_that_succeed_are_shown_to_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(verbose=False, form="text")
    log.debug("Get")
    assert capsys.readouterr().err == ""
    logs.set_up(verbose=True, form="text")
    log.debug("Get")
    assert capsys.readouterr().err.endswith("DEBUG   Get\n")


def test_a_dying_thread_and_a_warning_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(verbose=False, form="json")
    dying = threading.Thread(target=lambda: 1 // 0)
    dying.start()
    dying.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("mind", stacklevel=1)
    died, warned = map(json.loads, capsys.readouterr().err.splitlines())
    assert died["level"] == "error"
    assert "ZeroDivisionError" in died["trace"]
    assert "UserWarning: mind" in warned["message"]


def test_an_exception_that_nobody_could_raise_is_a_line_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Lost:
        def __del__(self) -> None:
            raise ValueError("lost")

    logs.set_up(verbose=False, form="json")
    Lost()
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: lost" in json.loads(line)["trace"]
