"""The part of containerd's configuration that names a snapshotter, for each version of containerd.

containerd 2.x reads the capabilities and the part of the transfer service; 1.6 and 1.7 ignore both.
(containerd, docs/PLUGINS.md and docs/cri/config.md.)
"""

from __future__ import annotations

from typing import Final

_CONFIG: Final = """\
version = 2

[proxy_plugins."{name}"]
  type = "snapshot"
  address = "{address}"
  # containerd 2.x, Linux 5.19: containers with ids of their own, without a copy of their image
  # capabilities = ["remap-ids"]

# Kubernetes: where kubelet measures how full the disk of images and containers is (containerd 2.x)
[proxy_plugins."{name}".exports]
  root = "{root}"

# Kubernetes: images and containers of the CRI plugin (containerd 1.6 and 1.7)
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{name}"
  disable_snapshot_annotations = false

# Kubernetes: the same for containerd 2.x
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{name}"

# containerd 2.x: imports and pulls through the transfer service; naming one replaces the default
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/{architecture}"
  snapshotter = "{name}"
  differ = "walking"
"""
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}


def config(name: str, address: str, root: str, machine: str) -> str:
    """Return the lines for ``/etc/containerd/config.toml``.

    Args:
        name: containerd's name for the snapshotter.
        address: the absolute path of its socket.
        root: the absolute path of the directory with its layers.
        machine: the processor, as uname(2) names it.
    """
    return _CONFIG.format(
        name=name,
        address=_quoted(address),
        root=_quoted(root),
        architecture=_ARCHITECTURES.get(machine, machine),
    )


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')
