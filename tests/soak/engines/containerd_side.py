"""A real containerd on a snapshotter."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.soak.engines import content
from tests.soak.engines.content import Tree, some_change
from tests.soak.engines.disk import Disk
from tests.soak.engines.errors import RefusedError
from tests.soak.engines.side import (
    MOST_CONTAINERS,
    MOST_IMAGES,
    OVERLAYS,
    Action,
    Container,
    Image,
    Side,
    end_shims,
)
from tests.support import inspection, leftovers
from tests.support.containerd import Containerd
from tests.support.containerd_images import chain_id, write_image
from tests.support.filesystems import unmount
from tests.support.mounting import mount
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

USE: Final = ("--snapshotter", "ours")


class ContainerdSide(Side):
    """A containerd whose snapshots are on a disk of their own.

    Snapshots that a user commits count as images, called ``keptN``; the others are ``imageN``.
    """

    engine = "containerd"

    def __init__(self, driver: str, disk: Disk, folder: Path, chance: random.Random) -> None:
        super().__init__(driver, disk, folder, chance)
        self.home = disk.place / "home"
        self.snapshotter = Snapshotter(folder, driver, "-v", "--log-format", "json", root=self.home)
        self._namespace = f"soak-{secrets.token_hex(4)}"
        self._runtime = f"/run/containerd/runc/{self._namespace}"
        self.containerd = Containerd(folder, self.snapshotter.address, namespace=self._namespace)
        self._chains: dict[str, list[str]] = {}
        """The snapshots that each image and each container needs."""

    # --- the processes ---

    @property
    def pid(self) -> int:
        assert self.snapshotter.process
        return self.snapshotter.process.pid

    @property
    def log(self) -> Path:
        return self.snapshotter.log

    def exit_code(self) -> int | None:
        assert self.snapshotter.process
        return self.snapshotter.process.poll()

    def start(self) -> None:
        self.snapshotter.start()

    def stop(self) -> None:
        self.snapshotter.__exit__()
        assert self.snapshotter.process
        assert self.snapshotter.process.returncode == 0

    def kill(self) -> None:
        self.snapshotter.kill()

    def start_engine(self) -> None:
        self.containerd.start()
        self.containerd.sees_the_snapshotter()

    def stop_engine(self) -> None:
        self.containerd.stop()

    def kill_engine(self) -> None:
        self.containerd.kill()

    def await_server(self) -> None:
        self.containerd.sees_the_snapshotter()

    def mount_again(self) -> None:
        self._kill_tasks()
        self.stop_engine()
        self.stop()
        leftovers.end_starting(self._runtime)
        self.disk.mend()
        self.start()
        self.start_engine()

    def close(self) -> None:
        try:
            self._kill_tasks()
        finally:
            self.containerd.stop()
            self.snapshotter.__exit__()
            end_shims(self.folder)
            leftovers.end_starting(self._runtime)
            shutil.rmtree(self._runtime, ignore_errors=True)

    def _kill_tasks(self) -> None:
        for task in self.ctr("task", "ls", "-q").split():
            self.ctr("task", "rm", "--force", task)
        self.note_all_stopped()

    # --- what it has ---

    def found(self) -> tuple[set[str], dict[str, bool]]:
        images = {_short(ref) for ref in self.ctr("image", "ls", "-q").split()}
        kept = {name for name in self.containerd.snapshots() if name.startswith("kept")}
        lines = [line.split() for line in self.ctr("task", "ls").splitlines()[1:]]
        running = {name for name, _, state in lines if state == "RUNNING"}
        containers = self.ctr("container", "ls", "-q").split()
        return images | kept, {name: name in running for name in containers}

    def identity(self, image: str) -> object:
        if image.startswith("kept"):
            told = json.loads(self.ctr("snapshot", *USE, "info", image))
            return told["Parent"], told["Created"]
        lines = self.ctr("image", "ls", f"name=={_reference(image)}").splitlines()[1:]
        return lines[0].split()[2]

    def content_of_image(self, name: str) -> Tree:
        key = name if name.startswith("kept") else self._chains[name][-1]
        with self._shown(key) as root:
            return content.read_directory(root)

    def content_of_container(self, name: str) -> Tree:
        if self.containers[name].runs:
            # Its overlay must not be mounted twice: the second mount empties the first one's "work".
            (place,) = (one for one in self.containerd.mounts() if one.endswith(f"/{name}/rootfs"))
            return content.read_directory(Path(place))
        lines = self.ctr("snapshot", *USE, "mounts", str(self.folder / "shown"), name).splitlines()
        with self._mounted(lines) as root:
            return content.read_directory(root)

    def forget(self, name: str) -> None:
        images, containers = self.found()
        self._chains.pop(name, None)
        if name in containers:
            self.containerd.run("task", "rm", "--force", name)
            self.ctr("container", "rm", name)
        if name.startswith("kept") and name in images:
            self.ctr("snapshot", *USE, "rm", name)
        elif name in images:
            self.ctr("image", "rm", "--sync", _reference(name))
        # An import that was cut off leaves a lease, which keeps its snapshots for a day.
        for lease in self.ctr("leases", "ls", "-q").split():
            self.ctr("leases", "rm", "--sync", lease)

    def expected_snapshots(self) -> set[str]:
        return {one for name in (*self.images, *self.containers) for one in self._chains[name]}

    def check_layers(self) -> None:
        expected = self.expected_snapshots()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: {*self.containerd.snapshots()} == expected)
        differs = {*self.containerd.snapshots()} ^ expected
        assert not differs, f"containerd has too many or too few snapshots: {differs}"
        count = len(expected)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: len(inspection.layers(self.home)) == count)
        layers = inspection.layers(self.home)
        assert len(layers) == count, (layers, self.snapshotter.calls.list())
        running = sum(one.runs for one in self.containers.values())
        mounted = [one for one in self.containerd.mounts() if one.endswith("/rootfs")]
        assert len(mounted) == running, mounted
        if self.driver not in OVERLAYS:
            assert leftovers.layers_mounted(self.home) == []

    def remove_all(self) -> None:
        self.collect_garbage()

    def collect_garbage(self) -> None:
        # `ctr snapshot prepare` marks its snapshot as one that containerd must not collect.
        if "shown" in self.containerd.snapshots():  # the prepare, or its end, was cut off
            self.ctr("snapshot", *USE, "rm", "shown")
        self.ctr("leases", "create", "--id", "soak")
        self.ctr("leases", "rm", "--sync", "soak")

    def check_saved(self, name: str) -> None:
        """See that an image is what it was: its record, and the tree of its layers."""
        assert self.identity(name) == self.images[name].identity, name
        self.check_content([name])

    @contextlib.contextmanager
    def _shown(self, key: str) -> Iterator[Path]:
        # Not a view: containerd may collect that at once, since nothing refers to it.
        place = str(self.folder / "shown")
        lines = self.ctr("snapshot", *USE, "prepare", "--target", place, "shown", key).splitlines()
        try:
            with self._mounted(lines) as root:
                yield root
        finally:
            self.ctr("snapshot", *USE, "rm", "shown")

    @contextlib.contextmanager
    def _mounted(self, commands: list[str]) -> Iterator[Path]:
        place = self.folder / "shown"
        place.mkdir(exist_ok=True)
        done = 0
        try:
            for line in commands:
                _, _, kind, source, target, _, options = line.split()
                mount(kind, source, target, options)
                done += 1
            yield place
        finally:
            for _ in range(done):
                unmount(place)

    def ctr(self, *words: str) -> str:
        """Run a command of the client.

        Raises:
            RefusedError: it failed; the text is what it printed.
        """
        done = self.containerd.run(*words)
        if done.returncode:
            raise RefusedError(f"{done.stdout}{done.stderr}")
        return done.stdout

    # --- what can be done ---

    def choices(self) -> dict[Callable[[], Action | None], int]:
        return {
            self._import: 5,
            self._run: 4,
            self.change_in_a_container: 5,
            self._halt: 2,
            self._continue: 2,
            self._keep: 2,
            self._show: 2,
            self._use: 1,
            self._remove_container: 2,
            self._remove_image: 2,
        }

    def _import(self) -> Action | None:
        if len(self.images) >= MOST_IMAGES:
            return None
        layers, tree = self.new_layers(4)
        name = self.new_name("image")
        archive = self.folder / f"{name}.tar"
        write_image(archive, f"{name}:latest", layers)
        self.figures.bytes += archive.stat().st_size

        def run() -> None:
            self.ctr("image", "import", *USE, str(archive))

        def done() -> None:
            self._chains[name] = [chain_id(layers[: n + 1]) for n in range(len(layers))]
            self.images[name] = Image(tree, self.identity(name))
            archive.unlink()

        return Action("import", frozenset({name}), run, done)

    def _run(self) -> Action | None:
        images = [name for name in self.certain(self.images) if name.startswith("image")]
        if not images or len(self.containers) >= MOST_CONTAINERS:
            return None
        image = self.chance.choice(images)
        change = some_change(self.chance, self.images[image].tree)
        name = self.new_name("container")
        script = change.script(self.images[image].tree)
        tree = change.of(self.images[image].tree)

        def run() -> None:
            words = ("run", "--detach", *USE, _reference(image), name, "/bin/sh", "-c")
            self._start(name, *words, "exec /bin/sleep 1000000")
            self.execute(name, script)

        def done() -> None:
            self._chains[name] = [*self._chains[image], name]
            self.containers[name] = Container(image, tree)

        return Action("run", frozenset({name}), run, done, frozenset({image}))

    def _start(self, container: str, *words: str) -> None:
        """Start a container by a command of the client."""
        try:
            self.ctr(*words)
        except RefusedError as error:
            # On a busy machine a shim may reap the helper of a FUSE mount before containerd's own code
            # in it has waited for the helper, and gives up after ten times.
            if "failed with ECHILD" not in str(error):
                raise
            if words[0] == "run":
                self.ctr("container", "rm", container)
            self.ctr(*words)

    def execute(self, container: str, script: str) -> None:
        """Run a script in a container."""
        words = ("task", "exec", "--exec-id", f"exec-{time.monotonic_ns()}", container)
        self.ctr(*words, "/bin/sh", "-c", f"PATH=/bin; {script}")

    def _halt(self) -> Action | None:
        name = self.some_container(runs=True)
        if not name:
            return None
        container = self.containers[name]

        def run() -> None:
            self.ctr("task", "kill", "--signal", "9", name)
            wait_until(lambda: f"{name} " not in self._running_tasks())
            self.ctr("task", "rm", name)

        def done() -> None:
            container.runs = False

        return Action("halt", frozenset({name}), run, done)

    def _running_tasks(self) -> str:
        lines = self.ctr("task", "ls").splitlines()
        return "\n".join(f"{line} " for line in lines if "RUNNING" in line)

    def _continue(self) -> Action | None:
        name = self.some_container(runs=False)
        if not name:
            return None
        container = self.containers[name]

        def run() -> None:
            self._start(name, "task", "start", "--detach", name)

        def done() -> None:
            container.runs = True

        return Action("start", frozenset({name}), run, done)

    def _keep(self) -> Action | None:
        """Commit the snapshot of a container, which ends the container."""
        container = self.some_container(runs=False)
        if not container or len(self.images) >= MOST_IMAGES:
            return None
        name, tree = self.new_name("kept"), self.containers[container].tree

        def run() -> None:
            self.ctr("snapshot", *USE, "commit", name, container)
            self.ctr("container", "rm", "--keep-snapshot", container)

        def done() -> None:
            self._chains[name] = [*self._chains[container][:-1], name]
            self.images[name] = Image(tree, self.identity(name))
            self.containers.pop(container)

        return Action("commit", frozenset({name, container}), run, done)

    def _show(self) -> Action | None:
        images = self.certain(self.images)
        if not images:
            return None
        name = self.chance.choice(images)
        found: list[Tree] = []

        def run() -> None:
            found.append(self.content_of_image(name))

        def done() -> None:
            assert found == [self.images[name].tree], name

        return Action("prepare", frozenset(), run, done, frozenset({name}), alone=True)

    def _use(self) -> Action | None:
        """Ask for the disk usage of all snapshots."""

        def run() -> None:
            self.ctr("snapshot", *USE, "usage")

        return Action("usage", frozenset(), run, lambda: None, alone=True)

    def _remove_container(self) -> Action | None:
        name = self.some_container()
        if not name:
            return None
        runs = self.containers[name].runs

        def run() -> None:
            if runs:
                self.ctr("task", "rm", "--force", name)
            self.ctr("container", "rm", name)

        def done() -> None:
            self.containers.pop(name)

        return Action("remove a container", frozenset({name}), run, done)

    def _remove_image(self) -> Action | None:
        images = self.certain(self.images)
        if not images:
            return None
        name = self.chance.choice(images)
        words: tuple[str, ...] = ("snapshot", *USE, "rm", name)
        if not name.startswith("kept"):
            words = ("image", "rm", "--sync", _reference(name))

        def run() -> None:
            self.ctr(*words)

        def done() -> None:
            self.images.pop(name)

        return Action("remove an image", frozenset({name}), run, done)


def _reference(image: str) -> str:
    return f"docker.io/library/{image}:latest"


def _short(reference: str) -> str:
    return reference.removeprefix("docker.io/library/").removesuffix(":latest")
