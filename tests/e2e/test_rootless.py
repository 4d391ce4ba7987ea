"""A rootless daemon: it, its containers and the plugin are all in one user namespace."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import debian_story
from tests.e2e.engines import Engines
from tests.e2e.homes import home_of
from tests.support.ground import Docker, tool
from tests.support.subordinate import FIRST, give_ids


@pytest.fixture(scope="module")
def enter() -> Iterator[tuple[str, ...]]:
    """How a program is run in a user namespace with subordinate ids."""
    with subprocess.Popen([tool("unshare"), "--user", "--mount", "sleep", "infinity"]) as holder:
        try:
            give_ids(holder.pid)
            target = f"--target={holder.pid}"
            yield (tool("nsenter"), target, "--user", "--mount", "--wd=/")
        finally:
            holder.kill()


@pytest.fixture(scope="module")
def engines(
    docker_programs: Docker, enter: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("rootless")
    told = [f"{name}={folder}" for name in ("XDG_RUNTIME_DIR", "ROOTLESSKIT_STATE_DIR")]
    tool("rootlesskit-docker-proxy")  # the daemon looks for it, and with no network never calls it
    rootless = (*enter, tool("env"), *told, *docker_programs.daemon, "--rootless")
    docker = dataclasses.replace(docker_programs, daemon=rootless)
    with contextlib.closing(Engines(docker, folder)) as engines:
        yield engines


@pytest.mark.parametrize("driver", ["overlay2", "fuse-overlayfs"])
@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_a_debian_is_imported_run_changed_committed_and_run_again(
    engines: Engines, enter: tuple[str, ...], driver: str, debian_tar: Path
) -> None:
    name = f"py-rootless-{driver}"
    serve = [sys.executable, "-m", "graphdriver", "serve", driver, "--name", name]
    with engines.on_plugin(
        driver, name=name, command=[*enter, *serve, "-v", "--log-format", "json"]
    ) as (daemon, _):
        info = daemon.docker("info", "--format", "{{.SecurityOptions}}")
        assert "name=rootless" in info
        debian_story.change(daemon, debian_tar, "! mknod /srv/device b 7 9 2> /dev/null")
        (made,) = home_of(daemon).glob("*/diff/srv/made")
        assert (made.stat().st_uid, made.stat().st_gid) == (FIRST + 1234, FIRST + 4321)
        debian_story.forget(daemon)
