"""SIGUSR1: the stacks of all threads, for who wants to know what a plugin is waiting for.

As text they are written straight to stderr by the interpreter's own handler, which needs no thread
of ours to run. As JSON they are one line of the log, so that every line stays an object; a thread
that waits for the signal writes it, since a handler must not wait for the log's lock.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading

from graphdriver.serving.logs import Form

_log = logging.getLogger(__name__)


def dump_on_signal(form: Form) -> None:
    """Answer SIGUSR1, which would end the process otherwise. For the main thread."""
    if form == "text":
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=True)
        return
    asked, ask = os.pipe()
    os.set_blocking(ask, False)

    def note(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):  # asked often enough already
            os.write(ask, b"\0")

    threading.Thread(target=_log_each, args=(asked,), name="stacks", daemon=True).start()
    signal.signal(signal.SIGUSR1, note)


def _log_each(asked: int) -> None:
    while os.read(asked, 1):
        with open(os.memfd_create("stacks"), "w+b") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            stacks = file.read().decode("utf-8", "replace")
        _log.info("the stacks of all threads", extra={"graphdriver": {"stacks": stacks}})
