"""A plugin that the kit starts is ended by the kit, whatever comes between."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.kit.process import Process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_moment_of_a_start_leaves_no_process(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*words: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(real(*words, **named))
        signal.raise_signal(number)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    former = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Process("sh -c 'sleep 60' {socket}", tmp_path)
        assert started[0].poll() == -signal.SIGKILL
    finally:
        signal.signal(number, former)
        started[0].kill()
        started[0].wait()
