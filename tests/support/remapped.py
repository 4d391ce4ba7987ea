"""A container in a user namespace, and the owners that it finds."""

from __future__ import annotations

import os

from tests.support.containerd import IMAGE, Containerd

HOST = 100_000
MAP = f"0:{HOST}:65536"
CONTAINER = f"one-{os.getpid()}"
"""runc knows the containers of all containerds by name, and tests run side by side."""
WITHIN = ["0:0", "0:0", "7:8", "0", str(HOST), "65536"]


def owners_inside(containerd: Containerd, *options: str) -> list[str]:
    """Run a container; return who owns what in it, and which of its ids are which."""
    say = "stat -c %u:%g / /bin/busybox; >/new; chown 7:8 /new; stat -c %u:%g /new"
    command = ("/bin/sh", "-c", f"{say}; cat /proc/self/uid_map")
    use = ("--snapshotter", "ours", *options)
    return containerd.ctr("run", *use, IMAGE, CONTAINER, *command).split()
