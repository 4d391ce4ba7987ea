"""A node of Kubernetes without kubelet: containerd with its CRI plugin, called as kubelet calls it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from tests.support.containerd import Containerd
from tests.support.cri import calls
from tests.support.ground import engine
from tests.support.leftovers import mounts_below
from tests.support.network import Host
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

NAMESPACE: Final = "k8s.io"
_FIRST_ID: Final = 655360
"""On the host, of user namespaces."""
IDS: Final = 65536

_TOP: Final = """
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
"""
_REST: Final = """
[grpc]
  address = "{folder}/c.sock"

[plugins."io.containerd.gc.v1.scheduler"]
  schedule_delay = "0ms"

[plugins."io.containerd.nri.v1.nri"]
  disable = true
"""
_CRI: Final = {
    2: """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  stats_collect_period = 1
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/certs.d"
""",
    3: """
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{sandbox}"

[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{folder}/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
""",
}
_CLASS: Final = """
[{runtimes}.runc]
  runtime_type = "io.containerd.runc.v2"

[{runtimes}.ours]
  runtime_type = "io.containerd.runc.v2"
  snapshotter = "ours"
"""
"""A runtime class with our snapshotter, on a node whose other pods are on containerd's own.

containerd 1.7 forgets its default, runc, as soon as a table for another one is there.
"""

_RUNTIMES: Final = {
    2: 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes',
    3: 'plugins."io.containerd.cri.v1.runtime".containerd.runtimes',
}
_IMAGES: Final = '[plugins."io.containerd.cri.v1.images"]'
"""The header of a table that has keys of ours and of the node's."""

_NETWORK: Final = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.217.0.0/24"}]]},
        }
    ],
}


def _config(
    folder: Path, snapshotter: Snapshotter, sandbox: str, capabilities: str, *, is_class: bool
) -> str:
    """Return the configuration: what ``--print-config`` prints, and what every node has of its own."""
    said = subprocess.run([*engine("containerd"), "--version"], capture_output=True, check=True)
    version = said.stdout.split()[2].decode()
    words = ["snapshotter", "--address", snapshotter.address, "--root", str(snapshotter.root)]
    words += ["--name", "ours", "--print-config", "--containerd", version]
    command = [sys.executable, "-m", "graphdriver", *words]
    ours = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, _, tables = ours.partition("\n")
    file_version = int(first.removeprefix("version = "))
    tables = tables.replace(_IMAGES, f"{_IMAGES}\nstats_collect_period = 1")
    if capabilities:
        tables = tables.replace(f"# {capabilities}", capabilities)
    plugins = min(file_version, 3)
    own = (_TOP, _REST + _CRI[plugins])
    top, rest = (part.format(folder=folder, sandbox=sandbox) for part in own)
    if is_class:
        every = 'snapshotter = "ours"\ndisable_snapshot'
        assert every in tables
        tables = tables.replace(every, every.replace("ours", "overlayfs"))
        rest += _CLASS.format(runtimes=_RUNTIMES[plugins])
    return f"{first}{top}{tables}{rest}"


class Pod:
    """A pod that runs.

    Args:
        node: where.
        id: the runtime's name for it.
        config: its configuration.
    """

    def __init__(self, node: Node, id: str, config: Mapping[str, Any]) -> None:
        self._node = node
        self._config = config
        self._id = id

    @property
    def is_ready(self) -> bool:
        """Whether its sandbox runs."""
        return bool(self._status().state == 0)

    @property
    def address(self) -> str:
        """Its IP address, if it has a network of its own."""
        return str(self._status().network.ip)

    def _status(self) -> Any:
        return self._node.runtime.PodSandboxStatus(pod_sandbox_id=self._id).status

    def run(self, image: str, *command: str, volumes: Sequence[tuple[str, str]] = ()) -> Container:
        """Create a container and start it.

        Args:
            image: a reference, or an ID.
            command: what runs in it.
            volumes: images, and where they are in the container.
        """
        name = f"c{self._node.number()}"
        config = {
            "metadata": {"name": name},
            "image": {"image": image},
            "command": command,
            "mounts": [
                {"container_path": path, "readonly": True, "image": {"image": volume}}
                for volume, path in volumes
            ],
            "log_path": f"{name}.log",
            "linux": self._config["linux"],
        }
        created = self._node.runtime.CreateContainer(
            pod_sandbox_id=self._id, config=config, sandbox_config=self._config
        )
        container = Container(self._node, created.container_id, self._node.logs / f"{name}.log")
        self._node.runtime.StartContainer(container_id=container.id)
        return container

    def remove(self) -> None:
        """Stop it and remove it, with its containers."""
        self._node.runtime.StopPodSandbox(pod_sandbox_id=self._id)
        self._node.runtime.RemovePodSandbox(pod_sandbox_id=self._id)


class Container:
    """A container of a pod.

    Args:
        node: where.
        id: the runtime's name for it.
        log: the file of what it prints.
    """

    def __init__(self, node: Node, id: str, log: Path) -> None:
        self._node = node
        self.id = id
        self._log = log

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        answer = self._node.runtime.ContainerStatus(container_id=self.id)
        return bool(answer.status.state == 1)

    @property
    def printed(self) -> list[str]:
        """The lines that it has printed so far; each has a time, a stream and a tag before it."""
        return [line.split(" ", 3)[3] for line in self._log.read_text().splitlines()]

    def expect_prints(self, *lines: str) -> None:
        """Wait until it has printed these lines."""
        wait_until(lambda: self.printed == [*lines])

    @property
    def written_bytes(self) -> int:
        """The size of its writable layer, as it was counted last."""
        answer = self._node.runtime.ContainerStats(container_id=self.id)
        return int(answer.stats.writable_layer.used_bytes.value)

    def inside(self, *command: str) -> str:
        """Run a program in it; return what it prints."""
        done = self._node.runtime.ExecSync(container_id=self.id, cmd=command, timeout=60)
        assert done.exit_code == 0, f"{command}: {done.stderr.decode()}"
        return str(done.stdout.decode())

    def remove(self) -> None:
        """Stop it and remove it."""
        self._node.runtime.StopContainer(container_id=self.id)
        self._node.runtime.RemoveContainer(container_id=self.id)


class Node:
    """containerd's CRI plugin, with the configuration that ``--print-config`` prints.

    Args:
        folder: the directory of its files.
        snapshotter: where images and containers are.
        sandbox: the image that holds a pod's namespaces.
        capabilities: a line of the printed configuration that is switched on.
        is_class: whether only pods of the runtime class ``ours`` are on the snapshotter.
        host: the machine that it runs on; this one, if it is None.
    """

    def __init__(
        self,
        folder: Path,
        snapshotter: Snapshotter,
        sandbox: str,
        capabilities: str = "",
        *,
        is_class: bool = False,
        host: Host | None = None,
    ) -> None:
        self.sandbox = sandbox
        folder.chmod(0o711)  # the root of a user namespace goes through it, as through /run
        if host:
            registry = sandbox.partition("/")[
                0
            ]  # of another machine: it must be told to use no TLS
            hosts = folder / "certs.d" / registry
            hosts.mkdir(parents=True)
            (hosts / "hosts.toml").write_text(f'[host."http://{registry}"]\n')
        networks = folder / "cni"
        networks.mkdir()
        (networks / "pods.conflist").write_text(json.dumps(_NETWORK))
        self.logs = folder / "logs"
        self.logs.mkdir()
        config = _config(folder, snapshotter, sandbox, capabilities, is_class=is_class)
        self.containerd = Containerd(
            folder, snapshotter.address, namespace=NAMESPACE, config=config, host=host
        )
        self._channel = grpc.insecure_channel(f"unix:{folder}/c.sock")
        self.runtime = calls("RuntimeService", self._channel)
        self._images = calls("ImageService", self._channel)
        self._numbers = iter(range(1_000_000))

    @contextlib.contextmanager
    def running(self) -> Iterator[Node]:
        """Run it for the length of a ``with`` block; pods that are left are removed."""
        with self.containerd.running(), contextlib.closing(self._channel):
            wait_until(self._answers)
            try:
                yield self
            finally:
                for one in self.runtime.ListPodSandbox().items:
                    Pod(self, one.id, {}).remove()

    def _answers(self) -> bool:
        try:
            self.runtime.Version()
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNKNOWN, error  # not initialised yet
            return False
        return True

    @property
    def version(self) -> tuple[int, ...]:
        """The version of containerd: major and minor."""
        said = self.runtime.Version().runtime_version
        return tuple(int(part) for part in said.removeprefix("v").split(".")[:2])

    def number(self) -> int:
        """Return a number that was not given before."""
        return next(self._numbers)

    def pull(self, image: str) -> str:
        """Pull an image; return its ID.

        Raises:
            grpc.RpcError: that failed.
        """
        return str(self._images.PullImage(image={"image": image}).image_ref)

    def has(self, image: str) -> bool:
        """Tell whether it has an image."""
        return bool(self._images.ImageStatus(image={"image": image}).HasField("image"))

    def remove_image(self, image: str) -> None:
        """Remove an image."""
        self._images.RemoveImage(image={"image": image})

    def filesystem(self) -> Any:
        """Return what kubelet sees of the disk of images: its directory, bytes and inodes."""
        (one,) = self._images.ImageFsInfo().image_filesystems
        return one

    def pod(self, runtime_class: str = "", *, is_isolated: bool = False) -> Pod:
        """Run a pod.

        Args:
            runtime_class: the name of its runtime in containerd's configuration.
            is_isolated: with a user namespace and a network of its own, otherwise with the host's.
        """
        name = f"p{self.number()}"
        options: dict[str, Any] = {"network": "POD" if is_isolated else "NODE", "pid": "CONTAINER"}
        if is_isolated:
            ids = [{"host_id": _FIRST_ID, "container_id": 0, "length": IDS}]
            options["userns_options"] = {"mode": "POD", "uids": ids, "gids": ids}
        config = {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "hostname": name
            if is_isolated
            else "",  # a pod on the network of the host has its name
            "log_directory": str(self.logs),
            "linux": {"security_context": {"namespace_options": options}},
        }
        id = self.runtime.RunPodSandbox(config=config, runtime_handler=runtime_class).pod_sandbox_id
        return Pod(self, id, config)


@contextlib.contextmanager
def node_on(
    host: Host, folder: Path, driver: str, sandbox: str, *options: str, is_class: bool = False
) -> Iterator[tuple[Node, Snapshotter]]:
    """Run a node on a machine of a network, in a new directory.

    Args:
        host: the machine.
        folder: the directory; the path must be short.
        driver: keeps the layers.
        sandbox: the image that holds a pod's namespaces, of the registry that all images come from.
        options: more options of ``graphdriver snapshotter``.
        is_class: as for `Node`.
    """
    folder.mkdir()
    program = (*host.program, sys.executable, "-m", "graphdriver")
    snapshotter = Snapshotter(folder, driver, *options, program=program)
    node = Node(folder, snapshotter, sandbox, is_class=is_class, host=host)
    with snapshotter, node.running():
        yield node, snapshotter
    for point in mounts_below(snapshotter.root):
        subprocess.run(["umount", "--lazy", point], check=True)
