"""A layer is damaged under a real daemon: fsck names what is hit, and its way out brings it back."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engines import Engines
from tests.support.command import graphdriver

CONTENT = {"overlay2": "diff/bin/busybox", "erofs": "layer.erofs"}
"""The file of a layer that holds the shell."""
CALLS = ("Create", "ApplyDiff", "Get", "Remove")


def fsck(home: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = graphdriver("fsck", "--json", *words, str(home))
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def base_of(home: Path, content: str) -> Path:
    """Return the lowest layer: the one with the shell, which is large."""
    found = [path for path in home.glob(f"*/{content}") if path.stat().st_size > 100_000]
    (file,) = found
    return file


def flip(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(100_000)
        byte = file.read(1)
        file.seek(100_000)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("kind", CONTENT)
@pytest.mark.reaches(*CALLS, failing=("Get", "Create", "CreateReadWrite"))
def test_lost_content_is_named_and_loaded_again(engines: Engines, small: Path, kind: str) -> None:
    with engines.on_plugin(kind) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--name", "web", "--network=none", "small", "cat", "/data/file")
        home = daemon.root / plugin.name
        code, found = fsck(home, "--deep")
        assert (code, found["found"]) == (0, []), found
        assert str(plugin.pid) in str(found["served_by"])

        content = base_of(home, CONTENT[kind])
        layer = content.relative_to(home).parts[0]
        flip(content)
        assert fsck(home)[0] == 0
        code, found = fsck(home, "--deep")
        assert code == 14
        (wrong,) = found["found"]
        assert (wrong["code"], wrong["layer"]) == ("wrong-content", layer)
        assert {one["name"] for one in wrong["owners"]} == {"small:latest", "web"}

        subprocess.run(["umount", home / layer / "applied"], capture_output=True)
        lost = content if kind == "erofs" else home / layer / "diff"
        lost.rename(home / ".lost")
        refused = daemon.try_docker("run", "--network=none", "small", "cat", "/data/file")
        assert f"layer {layer} is damaged: " in refused.stderr.decode()
        assert f"; graphdriver fsck {home}" in refused.stderr.decode()

        assert graphdriver("fsck", "--repair", str(home)).returncode == 5
        code, found = fsck(home)
        assert code == 14
        assert found["ways_out"][-1] == "docker pull small:latest"
        for command in found["ways_out"][:-1]:
            program, *words = shlex.split(command)
            assert program == "docker"
            daemon.docker(*words)
        daemon.docker("load", "--input", str(small))
        assert daemon.run("small", "cat", "/data/file") == "from the image\n"
        code, found = fsck(home, "--deep")
        assert (code, found["found"]) == (0, []), found
