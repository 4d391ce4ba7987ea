"""What a plugin under a real daemon answers when it is asked what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphdriver import Client
from graphdriver.serving.server_record import read_server
from tests.e2e.engines import Engines
from tests.e2e.homes import home_of, layers


@pytest.mark.reaches("Create", "ApplyDiff", "Get", "Put", "Remove")
def test_layers_tell_their_age_their_size_and_the_daemon_also_after_a_kill(
    engines: Engines, small: Path
) -> None:
    with engines.on_plugin("overlay2") as (daemon, plugin):
        daemon.docker("load", f"--input={small}")
        daemon.docker("run", "-d", "--name=runs", "--network=none", "small", "sleep", "600")
        told = ask(plugin.socket, "layers")
        assert sorted(told) == layers(daemon)
        (container,) = [layer for layer in told.values() if layer["references"]]
        assert (container["mounted"], container["got_by"]["command"]) == (True, "dockerd")
        assert container["parent"] in told
        applied = [layer for layer in told.values() if layer["applied"]]
        assert len(applied) == 2
        assert all(layer["size"] >= 0 and layer["created"] <= layer["applied"] for layer in applied)
        served = read_server(str(home_of(daemon)))
        assert served
        assert (served.pid, served.engine) == (plugin.pid, "docker")

        plugin.kill()
        assert read_server(str(home_of(daemon))) is None
        plugin.start()
        daemon.docker("ps")
        again = ask(plugin.socket, "layers")
        kept = ("id", "parent", "created", "applied", "size", "references", "mounted")
        assert shown(again, kept) == shown(told, kept)
        assert not [layer for layer in again.values() if layer["gets"]]
        daemon.docker("rm", "-f", "runs")
        assert sorted(ask(plugin.socket, "layers")) == layers(daemon)


def ask(socket: Path, question: str) -> dict[str, Any]:
    """Ask for the layers; return them by their IDs."""
    with Client(str(socket), timeout=60) as client:
        answer: Any = client.ask(question)
        return {layer["id"]: layer for layer in answer}


def shown(layers: dict[str, Any], members: tuple[str, ...]) -> dict[str, Any]:
    return {id: {name: layer[name] for name in members} for id, layer in layers.items()}
