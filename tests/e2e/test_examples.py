from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.daemon import Daemon
from tests.support.images import LayerTar, image_archive, read_saved

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_folders.py"

WITH_A_LOG = """
import runpy, sys
from graphdriver.serving import logs
logs.set_up(verbose=True, form="json")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script as it stands; only, its log of calls is turned on first."""


def work(daemon: Daemon, busybox: bytes, folder: Path) -> None:
    tar = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    tar.symlink("bin/sh", "busybox").folder("data").add("data/old", data=b"old\n")
    id = image_archive(folder / "image.tar", "small", [tar.done()], {"Env": ["PATH=/bin"]})
    daemon.docker("load", "--input", str(folder / "image.tar"))
    command = "busybox rm /data/old && echo new > /data/new"
    daemon.docker("run", "--name=one", "--network=none", "small", "sh", "-c", command)
    assert sorted(daemon.docker("diff", "one").splitlines()) == [
        "A /data/new",
        "C /data",
        "D /data/old",
    ]
    daemon.docker("commit", "one", "changed")
    assert daemon.run("changed", "sh", "-c", "cd data; echo *; read x < new; echo $x") == (
        "new\nnew\n"
    )
    daemon.docker_to_file(folder / "saved.tar", "save", "small")
    assert read_saved(folder / "saved.tar").id == id
    daemon.docker("rm", "one")
    daemon.docker("rmi", "changed", "small")


@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_the_example_serves_a_daemon_as_a_script(
    engines: Engines, busybox: bytes, tmp_path: Path
) -> None:
    name = f"plain-folders-{secrets.token_hex(3)}"
    command = [sys.executable, "-c", WITH_A_LOG, str(EXAMPLE), name]
    with engines.on_plugin("plain_folders:PlainFolders", name=name, command=command) as (daemon, _):
        work(daemon, busybox, tmp_path)


@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_the_example_is_served_by_its_class(
    engines: Engines, busybox: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE.parent), prepend=":")
    with engines.on_plugin("plain_folders:PlainFolders") as (daemon, _):
        work(daemon, busybox, tmp_path)
