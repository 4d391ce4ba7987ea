"""A real daemon's records, read beside it and without it, and the removal of what no record names."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from graphdriver.care.docker_records import read_docker
from graphdriver.care.owners import EngineRecords, OwnerKind
from tests.e2e.engines import DRIVERS, Engines
from tests.e2e.subids import USER, subordinate_ids
from tests.support.command import graphdriver
from tests.support.daemon import Daemon
from tests.support.plugin_process import Plugin

BUILDKIT = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
DOCKERFILE = """\
FROM small AS first
RUN echo a > /a
RUN echo b > /b
FROM small
COPY --from=first /a /b /
COPY file /file
RUN echo c > /c
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "file").write_text("file")
    return tmp_path


REMAPPED = "overlay2 remapped"


@pytest.fixture(
    params=[
        driver if driver == "overlay2" else pytest.param(driver, marks=pytest.mark.long)
        for driver in (*DRIVERS, REMAPPED)
    ]
)
def both(
    request: pytest.FixtureRequest, engines: Engines, small: Path
) -> Iterator[tuple[Daemon, Plugin]]:
    """A daemon of this test's own, and its plugin."""
    driver, _, remapped = request.param.partition(" ")
    config = {"userns-remap": USER} if remapped else {}
    with (
        subordinate_ids() if remapped else contextlib.nullcontext(),
        engines.on_plugin(driver, config=config) as (daemon, plugin),
    ):
        daemon.docker("load", "--input", str(small))
        yield daemon, plugin


def built(daemon: Daemon, context: Path) -> str:
    """Build with BuildKit; return what it told, the image's digest in it."""
    command = ("build", "--network=none", "--tag=built", str(context))
    done = daemon.try_docker(*command, env=BUILDKIT)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).decode()


def layers(daemon: Daemon, plugin: Plugin) -> set[str]:
    home = daemon.root / plugin.name
    own = {"l"} if (home / "l").is_dir() else set()
    return {one.name for one in home.iterdir() if one.is_dir() and one.name[0] != "."} - own


def records(daemon: Daemon, plugin: Plugin) -> EngineRecords:
    found = read_docker(str(daemon.root), plugin.name)
    assert not found.unread
    return found


def owned(found: EngineRecords, kind: OwnerKind) -> dict[str, set[str]]:
    """Return the layers of each owner of a kind, by the owner's ID."""
    layers: dict[str, set[str]] = {}
    for layer in found.layers.values():
        for owner in layer.owners:
            if owner.kind is kind:
                layers.setdefault(owner.id, set()).add(layer.id)
    return layers


def gc(daemon: Daemon, plugin: Plugin, *words: str) -> tuple[int, list[str], str]:
    """Run the command; return its exit code, the layers that it tells, and its errors."""
    done = graphdriver("gc", "--json", *words, str(daemon.root / plugin.name))
    told = json.loads(done.stdout)["layers"] if done.stdout else []
    return done.returncode, [layer["id"] for layer in told], done.stderr.decode()


@pytest.mark.reaches("Create", "ApplyDiff", "Remove")
def test_every_layer_of_a_daemon_has_an_owner(both: tuple[Daemon, Plugin], context: Path) -> None:
    """And the owners are those that the daemon itself tells."""
    daemon, plugin = both
    daemon.docker("run", "--network=none", "--name=stopped", "small", "sh", "-c", "echo > /new")
    daemon.docker("run", "--detach", "--network=none", "--name=running", "small", "sleep", "600")
    daemon.docker("create", "--network=none", "--name=created", "small", "sh")
    daemon.docker("build", "--network=none", "--tag=classic", str(context))
    building = daemon.begin_docker("build", "--network=none", str(context), env=BUILDKIT)
    while building.poll() is None:
        records(daemon, plugin)  # whole at any time, beside the daemon that writes them
    building.communicate()
    built(daemon, context)
    daemon.docker("build", "--network=none", "--target=first", str(context), env=BUILDKIT)

    found = records(daemon, plugin)
    assert set(found.layers) == layers(daemon, plugin)
    assert all(layer.owners for layer in found.layers.values())
    images = json.loads(daemon.docker("image", "inspect", *all_images(daemon)))
    by_image = owned(found, OwnerKind.IMAGE)
    assert {image["Id"]: len(image["RootFS"]["Layers"]) for image in images} == {
        id: len(chain) for id, chain in by_image.items()
    }
    for image in images:
        diff_ids = [found.layers[layer].diff_id for layer in by_image[image["Id"]]]
        assert set(diff_ids) == set(image["RootFS"]["Layers"])
    containers = daemon.docker("ps", "--all", "--quiet", "--no-trunc").split()
    assert owned(found, OwnerKind.CONTAINER).keys() == set(containers)
    cached = owned(found, OwnerKind.BUILD_CACHE)

    daemon.docker("rm", "--force", "running")
    pruned = daemon.docker("builder", "prune", "--all", "--force").splitlines()
    assert cached.keys() <= {line.split()[0].rstrip("*") for line in pruned if line}
    found = records(daemon, plugin)
    assert set(found.layers) == layers(daemon, plugin)
    assert not owned(found, OwnerKind.BUILD_CACHE)
    assert all(layer.owners for layer in found.layers.values())


def all_images(daemon: Daemon) -> list[str]:
    return list(dict.fromkeys(daemon.docker("images", "--all", "--quiet", "--no-trunc").split()))


@pytest.mark.reaches("Create", "ApplyDiff", "Remove")
def test_only_what_no_record_names_is_removed(both: tuple[Daemon, Plugin], context: Path) -> None:
    daemon, plugin = both
    built(daemon, context)
    daemon.docker("run", "--network=none", "--name=mine", "built", "sh", "-c", "echo x > /x")
    needed = layers(daemon, plugin)
    parent = next(id for id, one in records(daemon, plugin).layers.items() if one.parent == "")
    with Client(str(plugin.socket)) as client:
        client.create("lost", parent, "", {})
        client.create("lost-too", "lost", "", {})

    code, _, told = gc(daemon, plugin, "--remove")
    assert (code, f"process {daemon.pid} (dockerd)" in told) == (5, True)
    plugin.kill()
    code, _, told = gc(daemon, plugin, "--remove")
    assert (code, f"process {daemon.pid} (dockerd)" in told) == (5, True)
    daemon.kill()
    assert layers(daemon, plugin) == needed | {"lost", "lost-too"}

    database = daemon.root / "buildkit/snapshots.db"
    whole = database.read_bytes()
    database.write_bytes(whole[:8192])
    code, _, told = gc(daemon, plugin, "--remove")
    assert (code, f"{database} is damaged" in told) == (1, True)
    database.write_bytes(whole)
    assert gc(daemon, plugin)[:2] == (13, ["lost-too", "lost"])
    assert layers(daemon, plugin) == needed | {"lost", "lost-too"}
    assert gc(daemon, plugin, "--remove")[:2] == (0, ["lost-too", "lost"])
    assert layers(daemon, plugin) == needed
    assert gc(daemon, plugin)[:2] == (0, [])

    plugin.start()
    daemon.start()
    assert built(daemon, context).count("CACHED") == 5
    assert daemon.run("built", "cat", "/a", "/b", "/c") == "a\nb\nc\n"
    assert daemon.docker("start", "--attach", "mine") == ""

    # The usual way out of a damaged build cache; what only the cache had is garbage then.
    daemon.docker("builder", "prune", "--all", "--force")
    built(daemon, context)
    daemon.stop()
    shutil.rmtree(daemon.root / "buildkit")
    daemon.start()
    daemon.stop()
    plugin.stop()
    lost = layers(daemon, plugin) - records(daemon, plugin).layers.keys()
    code, removed, _ = gc(daemon, plugin, "--remove")
    assert (code, set(removed)) == (0, lost)
    assert lost
    plugin.start()
    daemon.start()
    assert daemon.run("built", "cat", "/a", "/b", "/c") == "a\nb\nc\n"
    built(daemon, context)
