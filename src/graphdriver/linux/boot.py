"""Which boot this is (random(4)): mounts do not outlive one, and files do."""

from __future__ import annotations


def boot_id() -> str:
    """Return the ID of this boot, a UUID."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
