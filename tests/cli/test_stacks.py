"""SIGUSR1: where all threads are."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.command import Serving

HANGS = """
import os, time
from plain_folders import PlainFolders
class Hangs(PlainFolders):
    def status(self):
        open(f"{self.home}/hangs", "w").close()
        self.wait_to_be_freed()
        return []
    def wait_to_be_freed(self):
        while os.path.exists(f"{self.home}/hangs"):
            time.sleep(0.02)
"""


def wait_for(shown: Callable[[], bool], one: Serving) -> None:
    deadline = time.monotonic() + 60
    while not shown():
        assert one.process.poll() is None, one.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask_a_plugin_that_hangs(one: Serving, folder: Path) -> None:
    """Have a plugin tell its stacks while a call hangs in its driver, and let the call go on."""
    home = folder / "home"
    try:
        assert one.call("Init", f"Home={home}").returncode == 0
        hanging = threading.Thread(target=one.call, args=("Status",))
        hanging.start()
        wait_for((home / "hangs").exists, one)
        one.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: "wait_to_be_freed" in one.log.read_text(), one)
        (home / "hangs").unlink()
        hanging.join()
        assert one.call("Activate").returncode == 0
    finally:
        assert one.end() == 0


def test_as_text_the_stacks_of_all_threads_are_written_and_it_lives_on(folder: Path) -> None:
    (folder / "hangs.py").write_text(HANGS)
    one = Serving(folder, "hangs:Hangs", path=str(folder)).ready()
    ask_a_plugin_that_hangs(one, folder)
    assert "in serve_forever" in one.log.read_text()


def test_as_json_they_are_a_line_like_every_other(folder: Path) -> None:
    (folder / "hangs.py").write_text(HANGS)
    words = ("hangs:Hangs", "-v", "--log-format", "json")
    one = Serving(folder, *words, path=str(folder)).ready()
    ask_a_plugin_that_hangs(one, folder)
    (told,) = [line for line in one.lines if "stacks" in line]
    assert told["message"] == "the stacks of all threads"
    assert "in serve_forever" in str(told["stacks"])
    assert "in wait_to_be_freed" in str(told["stacks"])
