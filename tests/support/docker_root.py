"""The records of a Docker daemon, written by hand: a data root without a daemon."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tests.support.images import chain_id

DRIVER = "py-vfs"


class DockerRoot:
    """A data root: ``home`` is where the plugin's layers would be.

    Args:
        path: an empty directory.
        driver: the storage driver.
    """

    def __init__(self, path: Path, driver: str = DRIVER) -> None:
        self.path = path
        self.driver = driver
        self.home = path / driver
        self.image = path / "image" / driver
        for name in ("layerdb/sha256", "layerdb/mounts", "layerdb/tmp", "imagedb/content/sha256"):
            (self.image / name).mkdir(parents=True)
        (path / "containers").mkdir()
        self._names: dict[str, dict[str, str]] = {}

    def layer(self, layer: str, diff_ids: Sequence[str], size: int = 0) -> Path:
        """Record a layer of images; return the directory of its record."""
        record = self.image / "layerdb/sha256" / chain_id(diff_ids).removeprefix("sha256:")
        record.mkdir(exist_ok=True)
        (record / "cache-id").write_text(layer)
        (record / "diff").write_text(diff_ids[-1])
        (record / "size").write_text(str(size))
        if diff_ids[1:]:
            (record / "parent").write_text(chain_id(diff_ids[:-1]))
        return record

    def image_of(self, diff_ids: Sequence[str], *names: str) -> str:
        """Record an image; return its digest."""
        text = json.dumps({"rootfs": {"type": "layers", "diff_ids": list(diff_ids)}})
        hex = hashlib.sha256(text.encode()).hexdigest()
        (self.image / "imagedb/content/sha256" / hex).write_text(text)
        for name in names:
            self._names.setdefault(name.partition(":")[0], {})[name] = f"sha256:{hex}"
        (self.image / "repositories.json").write_text(json.dumps({"Repositories": self._names}))
        return f"sha256:{hex}"

    def container(self, id: str, name: str, layer: str, diff_ids: Sequence[str]) -> Path:
        """Record a container and its layers; return the directory of the layers' record."""
        record = self.image / "layerdb/mounts" / id
        record.mkdir()
        (record / "mount-id").write_text(layer)
        (record / "init-id").write_text(f"{layer}-init")
        (record / "parent").write_text(chain_id(diff_ids))
        config = self.path / "containers" / id / "config.v2.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"Name": f"/{name}", "Driver": self.driver}))
        config.with_name("hostconfig.json").write_text("{}")
        return record
