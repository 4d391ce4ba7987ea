"""``config.json`` of a managed plugin (https://docs.docker.com/engine/extend/config/)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

PROPAGATED: Final = "/mnt"
"""The directory in the plugin's container that holds its home. What is mounted below it there appears
below ``DATA-ROOT/plugins/ID/propagated-mount`` for the daemon."""

SOCKET: Final = "graphdriver.sock"
"""The socket's name in ``/run/docker/plugins`` of the container, which the daemon mounts there."""


def plugin_config(
    driver: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    capabilities: Iterable[str],
) -> dict[str, object]:
    """Return the content of ``config.json``.

    Args:
        driver: the driver's name, for people.
        command: the program and its arguments, as the container sees them.
        environment: its environment.
        capabilities: what it needs.
    """
    return {
        "description": f"The storage driver {driver}, served by graphdriver",
        "documentation": "",
        "interface": {"types": ["docker.graphdriver/1.0"], "socket": SOCKET},
        "entrypoint": list(command),
        # Options of the driver: docker plugin set NAME args="--opt size=10G"
        "args": {
            "name": "args",
            "description": "more arguments of graphdriver serve",
            "settable": ["value"],
            "value": [],
        },
        "workdir": "/",
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "network": {"type": "none"},
        # The daemon's process is seen by its ID, so that a plugin knows whether its daemon still runs.
        "pidhost": True,
        "mounts": [
            {
                "name": "dev",
                "description": "loop devices",
                "type": "bind",
                "source": "/dev",
                "destination": "/dev",
                "options": ["rbind", "rslave"],
            }
        ],
        "propagatedMount": PROPAGATED,
        # A layer may hold any device node; making one counts as access to the device.
        "linux": {"capabilities": sorted(capabilities), "allowAllDevices": True, "devices": []},
    }
