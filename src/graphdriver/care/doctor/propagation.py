"""Whether the daemon sees what the plugin mounts (mount_namespaces(7))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from graphdriver.care.findings import Finding, Severity
from graphdriver.linux.mountinfo import mount_points


@dataclass(frozen=True, slots=True)
class PropagationFacts:
    """What was found.

    Attributes:
        home: the home.
        plugin: the mount namespace of the process that serves it; ``""``: unknown.
        daemon: that of the daemon; ``""``: unknown.
        mount: the path of the mount that the home is on, in the plugin's namespace.
        is_shared: whether what is mounted below that appears in other namespaces.
    """

    home: str
    plugin: str = ""
    daemon: str = ""
    mount: str = ""
    is_shared: bool = False


def read_propagation(home: str, plugin: int | None, daemon: int | None) -> PropagationFacts:
    """Read the facts.

    Args:
        home: the home.
        plugin: the process that serves it; None: it is unknown.
        daemon: the daemon's process; likewise.
    """
    mount, is_shared = "", False
    with contextlib.suppress(OSError, ValueError, IndexError):
        for one in mount_points(plugin or "self"):
            point = os.fsdecode(one.point)
            # The last one with the longest path is the one on top.
            if f"{home}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(mount):
                mount, is_shared = point, one.is_shared
    return PropagationFacts(home, _namespace(plugin), _namespace(daemon), mount, is_shared)


def _namespace(pid: int | None) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/mnt") if pid else ""
    return ""


def check_propagation(facts: PropagationFacts) -> Iterator[Finding]:
    """Yield what the facts mean."""
    if not facts.plugin or not facts.daemon:
        yield Finding(
            Severity.NOTE,
            "unknown-propagation",
            facts.home,
            f"the {'daemon' if facts.plugin else 'plugin'}'s mount namespace is unknown",
        )
    elif facts.plugin == facts.daemon:
        yield Finding(
            Severity.NOTE, "one-namespace", facts.home, "plugin and daemon see the same mounts"
        )
    elif facts.is_shared:
        yield Finding(
            Severity.NOTE,
            "shared-mount",
            facts.home,
            f"plugin and daemon have mount namespaces of their own, and {facts.mount} is shared",
        )
    else:
        yield Finding(
            Severity.DAMAGE,
            "no-propagation",
            facts.home,
            f"the daemon does not see what the plugin mounts: {facts.mount or 'the mount'} is not"
            " shared, and they have different mount namespaces",
            "run the plugin in the daemon's mount namespace: its unit must not have PrivateTmp=,"
            " ProtectSystem=, ProtectHome=, ReadWritePaths= or MountFlags=",
        )
