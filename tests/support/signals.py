"""Signals to one thread of a process; otherwise the kernel chooses the thread."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from tests.support.waiting import wait_until

_libc = ctypes.CDLL(None, use_errno=True)


def signal_another_thread(pid: int, number: signal.Signals) -> None:
    """Send a signal to a thread of a process that is not its main one, once it has one (tgkill(2))."""
    tasks = Path(f"/proc/{pid}/task")
    wait_until(lambda: len(os.listdir(tasks)) > 1)
    thread = max(int(task) for task in os.listdir(tasks) if int(task) != pid)
    assert _libc.tgkill(pid, thread, number) == 0, os.strerror(ctypes.get_errno())
