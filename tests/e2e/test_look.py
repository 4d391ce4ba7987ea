"""The commands that look agree with the daemon on images, containers and sizes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from graphdriver.cli.main import main
from graphdriver.docker.http.client_connection import ClientConnection
from tests.support.daemon import Daemon
from tests.support.plugin_process import Plugin


def look(plugin: Plugin, *words: str) -> Any:
    """Return what a command tells as JSON."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert main([*words, "--plugin", plugin.name, "--json"]) == 0
    return json.loads(told.getvalue())


def layers_of(plugin: Plugin) -> Mapping[str, Any]:
    return {one["id"]: one for one in look(plugin, "layers")["layers"]}


def topmost(layers: Mapping[str, Any], name: str) -> str:
    """Return the layer that has a name, which no layer on it has."""

    def names(id: str) -> set[str]:
        return {owner["name"] for owner in layers[id]["owners"]}

    (found,) = [
        id
        for id in layers
        if name in names(id) and not any(name in names(child) for child in layers[id]["children"])
    ]
    return found


def layers_size(daemon: Daemon) -> int:
    """Return the size of all layers of images, as ``docker system df`` counts them."""
    connection = ClientConnection(str(daemon.socket), "docker", None, 60)
    with contextlib.closing(connection):
        connection.request("GET", "/system/df")
        found = json.load(connection.getresponse())["LayersSize"]
    assert isinstance(found, int)
    return found


@pytest.mark.reaches("ApplyDiff", "Get", "Put")
def test_images_containers_and_sizes(ours: Daemon, plugin: Plugin, small: Path) -> None:
    ours.docker("load", f"--input={small}")
    ours.docker("run", "--name=wrote", "--network=none", "small", "sh", "-c", "cat bin/sh > more")
    ours.docker("commit", "wrote", "larger:1")
    ours.docker("create", "--name=web", "larger:1", "sh")
    layers = layers_of(plugin)
    for name in ("small:latest", "larger:1"):
        image = json.loads(ours.docker("image", "inspect", name))[0]
        top = layers[topmost(layers, name)]
        chain = look(plugin, "inspect", name)["chain"]
        assert chain[0] == top["id"]
        assert len(chain) == len(image["RootFS"]["Layers"])
        assert top["own_size"] + top["shared_size"] == image["Size"]
    for name in ("wrote", "web"):
        data = json.loads(ours.docker("inspect", name))[0]
        container = layers[topmost(layers, name)]
        assert {"kind": "container", "id": data["Id"], "name": name} in container["owners"]
        assert container["id"] in str(data["GraphDriver"]["Data"] or container["id"])
    assert all(one["owners"] for one in layers.values()), "each layer belongs to something"
    assert sum(one["counted"] or 0 for one in look(plugin, "du")["layers"]) == layers_size(ours)
    status = look(plugin, "status")
    assert (status["home"], status["layers"]) == (str(ours.root / plugin.name), len(layers))


@pytest.mark.reaches("Get", "Put")
def test_a_container_that_runs_is_mounted_and_was_got_by_the_daemon(
    ours: Daemon, plugin: Plugin, small: Path
) -> None:
    ours.docker("load", f"--input={small}")
    ours.docker("run", "--detach", "--name=runs", "--network=none", "small", "sleep", "600")
    try:
        layer = look(plugin, "inspect", "runs")
        assert layer["references"] == 1
        assert layer["got_by"] == f"dockerd ({ours.pid})"
        assert layer["mounted"] is (plugin.driver not in ("vfs", "btrfs"))
        again = look(plugin, "du", "--verify")["layers"]
        assert all(one["on_disk"] is not None and not one["problem"] for one in again)
    finally:
        ours.docker("rm", "--force", "runs")
