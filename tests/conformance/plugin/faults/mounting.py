"""A driver that works and shows each layer by a mount, so that mounts can be broken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from graphdriver.driver import IDMap
from graphdriver.linux.mountinfo import mount_points
from tests.conformance.plugin.faults.fault import Broken


class Mounting(Broken):
    """Binds a layer's tree to HOME/.shown/ID at its first Get; the last Put unmounts it.

    What is mounted when a daemon says Init was got by one that is gone, and counts one Get.
    """

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        self.directory = os.path.join(os.path.realpath(home), ".shown")
        os.makedirs(self.directory, exist_ok=True)
        self.counts = dict.fromkeys(self.mounted(), 1)

    def mounted(self) -> list[str]:
        """Return the layers that are mounted."""
        points = [os.path.split(os.fsdecode(one.point)) for one in mount_points()]
        return [name for directory, name in points if directory == self.directory]

    def get(self, id: str, mount_label: str) -> str:
        place = os.path.join(self.directory, id)
        root = self.whole.get(id, mount_label)
        if not self.counts.get(id):
            os.makedirs(place, exist_ok=True)
            subprocess.run(["mount", "--bind", root, place], check=True)
        self.counts[id] = self.counts.get(id, 0) + 1
        return place

    def put(self, id: str) -> None:
        self.whole.put(id)
        self.counts[id] = max(0, self.counts.get(id, 0) - 1)
        if not self.counts[id] and id in self.mounted():
            self.unmount(id)

    def remove(self, id: str) -> None:
        if id in self.mounted():
            self.unmount(id)
        self.counts.pop(id, None)
        super().remove(id)

    def cleanup(self) -> None:
        for id in self.mounted():
            self.unmount(id)
        self.counts.clear()
        super().cleanup()

    def unmount(self, id: str) -> None:
        """Let nothing be shown any more."""
        place = os.path.join(self.directory, id)
        subprocess.run(["umount", "--lazy", place], check=True)
        os.rmdir(place)
