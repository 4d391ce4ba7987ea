"""A real dockerd on a plugin."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from graphdriver.care.docker_records import read_docker
from tests.soak.engines import content
from tests.soak.engines.content import Change, Tree, new_files, some_change
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
from tests.support.command import graphdriver
from tests.support.daemon import Daemon
from tests.support.filesystems import unmount
from tests.support.ground import find_docker, new_folder
from tests.support.images import image_archive, read_saved
from tests.support.plugin_process import Plugin

SLEEP: Final = ("sh", "-c", "exec sleep 1000000")
CONFIG: Final = {"Env": ["PATH=/bin"], "Cmd": [*SLEEP]}


class DockerSide(Side):
    """A dockerd whose home is on a disk of its own."""

    engine = "docker"

    def __init__(self, driver: str, disk: Disk, folder: Path, chance: random.Random) -> None:
        super().__init__(driver, disk, folder, chance)
        self.plugin = Plugin(folder / "plugin.log", driver)
        programs = find_docker()
        self.live_restore = chance.random() < 0.5
        """Whether containers run on while the daemon does not."""
        self.daemon = Daemon(
            programs,
            new_folder(str(folder)),
            folder / "dockerd.log",
            self.plugin.name,
            {"live-restore": self.live_restore},
        )
        self.home = self.daemon.data_root / self.plugin.name
        self.home.mkdir(parents=True)
        (disk.place / "home").mkdir()
        self.show_home()
        self._kills = 0
        self._cut_off_before = (0, 0)
        """How many actions had failed, and how often it was killed, when the daemon ended last with a
        Cleanup. Of what was cut off then, layers stay mounted until its next Cleanup."""

    @property
    def _cut_off(self) -> tuple[int, int]:
        return sum(self.figures.refused.values()), self._kills

    def show_home(self) -> None:
        """Mount the home where the daemon expects it."""
        subprocess.run(["mount", "--bind", self.disk.place / "home", self.home], check=True)

    def hide_home(self) -> None:
        """Unmount the home there; the plugin has stopped after a Cleanup."""
        assert leftovers.mounts_below(self.home) == []
        # A layer that was unmounted lazily has its image's file open until the last process that sees
        # it ends.
        unmount(self.home)

    # --- the processes ---

    @property
    def pid(self) -> int:
        return self.plugin.pid

    @property
    def log(self) -> Path:
        return self.plugin.log

    def exit_code(self) -> int | None:
        return self.plugin.exit_code()

    def start(self) -> None:
        self.plugin.start()

    def stop(self) -> None:
        self.plugin.stop()

    def kill(self) -> None:
        self.plugin.kill()

    def start_engine(self) -> None:
        self.daemon.start()
        # A daemon that is killed in a commit leaves the container paused.
        for container in self.docker("ps", "--quiet", "--filter=status=paused").split():
            self.docker("unpause", container)

    def stop_engine(self) -> None:
        self.daemon.stop()
        if not self.live_restore:  # otherwise there is no Cleanup
            self.note_all_stopped()
            self._cut_off_before = self._cut_off

    def kill_engine(self) -> None:
        self.daemon.kill()
        self._kills += 1
        for point in leftovers.mounts_below(self.daemon.data_root):
            if "/buildkit" in point:  # of a layer; the next daemon leaves it, too
                subprocess.run(["umount", "--lazy", point], check=True)
        if not self.live_restore:
            self.note_all_stopped()

    def await_server(self) -> None:
        """Do nothing: the daemon connects to a plugin at each call."""

    def mount_again(self) -> None:
        self._end_containers()
        self.stop_engine()
        self.plugin.stop()
        leftovers.end_starting(self.daemon.folder)
        self.hide_home()
        self.disk.mend()
        self.show_home()
        self.plugin.start()
        self.start_engine()

    def _end_containers(self) -> None:
        for container in self.docker("ps", "--quiet").split():
            self.docker("kill", container)
            self.docker("wait", container)
        self.note_all_stopped()

    def close(self) -> None:
        """Stop both, and remove all; after a failure the daemon may not run."""
        try:
            if self.daemon.runs and self.live_restore:
                self.daemon.clear()
            if self.daemon.runs:
                self.daemon.stop()
        finally:
            end_shims(self.daemon.folder)
            self.plugin.close()
            left = leftovers.mounts_below(self.home)
            for point in left:
                unmount(Path(point), "--lazy")
            self.hide_home()
            self.daemon.close()
            assert not left

    # --- what it has ---

    def found(self) -> tuple[set[str], dict[str, bool]]:
        images = self.docker("images", "--format", "{{.Repository}}").split()
        lines = self.docker("ps", "--all", "--format", "{{.Names}} {{.State}}").splitlines()
        states = dict(line.split() for line in lines)
        return {*images} - {"<none>"}, {name: it == "running" for name, it in states.items()}

    def identity(self, image: str) -> object:
        (found,) = json.loads(self.docker("image", "inspect", image))
        return found["Id"], found["RootFS"]["Layers"]

    def content_of_image(self, name: str) -> Tree:
        self.docker("create", "--name=shown", name, *SLEEP)
        tree = self.content_of_container("shown")
        self.docker("rm", "shown")
        return tree

    def content_of_container(self, name: str) -> Tree:
        path = self.folder / "export.tar"
        self.docker("export", f"--output={path}", name)
        return content.read_tar(path)

    def forget(self, name: str) -> None:
        images, containers = self.found()
        if name in containers:
            self.docker("rm", "--force", name)
        if name in images:
            self.docker("rmi", "--force", name)

    def check_layers(self) -> None:
        # A daemon that is killed while it removes a layer leaves CHAIN-ID-NUMBER-removing.
        kept = (one for one in self._records.glob("sha256/*") if "-" not in one.name)
        needed = {(one / "cache-id").read_text() for one in kept}
        containers = self.docker("ps", "--all", "--quiet", "--no-trunc").split()
        written = {name: self._written_layers(name) for name in self._written()}
        needed |= {layer for name in containers for layer in written.pop(name, ())}
        there = inspection.layers(self.home)
        assert not needed - there, f"layers are lost: {needed - there}"
        # What is left are the steps of builds. A daemon that ends while it removes one leaves the
        # record of a layer that the plugin has removed, and no command of its client removes that.
        lost = {layer for layers in written.values() for layer in layers} - there
        assert not lost or lost <= self._removed(), f"layers of a build are lost: {lost}"
        mounted = {Path(point).parent.name for point in leftovers.layers_mounted(self.home)}
        expected = self._running_layers() if self.driver in OVERLAYS else set()
        assert mounted >= expected
        assert mounted == expected or self._cut_off > self._cut_off_before, mounted - expected

    def _running_layers(self) -> set[str]:
        running = [name for name, one in self.containers.items() if one.runs]
        ids = [self.docker("inspect", "--format={{.Id}}", name).strip() for name in running]
        return {(self._records / "mounts" / id / "mount-id").read_text() for id in ids}

    def _written(self) -> list[str]:
        """Return the names of layers that are written: the IDs of containers, and steps of builds."""
        return [one.name for one in self._records.glob("mounts/*")]

    def _written_layers(self, name: str) -> list[str]:
        files = (self._records / "mounts" / name / one for one in ("mount-id", "init-id"))
        return [file.read_text() for file in files if file.exists()]

    def _removed(self) -> set[str]:
        """Return the layers that the daemon has had removed."""
        return {one["layer"] for one in self.told() if one.get("call") == "Remove"}

    @property
    def _records(self) -> Path:
        return self.daemon.root / "image" / self.plugin.name / "layerdb"

    def collect_garbage(self) -> None:
        """Let a layer be removed: the plugin tries again with each what it could not delete.

        A build that broke off has left a container.
        """
        for name in self.docker("ps", "--all", "--format={{.Names}}").split():
            if not name.startswith("container"):
                self.docker("rm", "--force", name)
        self._remove_garbage()
        archive = self.folder / "empty.tar"
        archive.write_bytes(bytes(10240))
        self.docker("import", str(archive), "empty")
        self.docker("rmi", "empty")

    def remove_all(self) -> None:
        self.daemon.clear()
        self._remove_garbage()

    def _remove_garbage(self) -> None:
        """Remove layers that the daemon has made and forgotten; they would keep their parents.

        After a failed Get it does not remove the layer ``ID-init``. With ``live-restore`` a daemon that
        is killed leaves layers mounted, which only an operator unmounts: there is no Cleanup.
        """
        if [
            *self._records.glob("sha256/*-removing")
        ]:  # finished by a daemon that ends with a Cleanup
            self._end_containers()
            self.stop_engine()
            self.start_engine()
        recorded = read_docker(str(self.daemon.root), self.plugin.name)
        assert not recorded.unread
        garbage = inspection.layers(self.home) - recorded.layers.keys() - recorded.named
        if not garbage:
            return
        self.figures.garbage += len(garbage)
        self.stop_engine()
        self.stop()
        for point in leftovers.layers_mounted(self.home):
            if Path(point).parent.name in garbage:
                unmount(Path(point))
        collected = graphdriver("gc", "--remove", str(self.home))
        assert collected.returncode == 0, collected.stdout.decode() + collected.stderr.decode()
        assert not inspection.layers(self.home) & garbage
        self.start()
        self.start_engine()

    def check_saved(self, name: str) -> None:
        """Save an image, and compare the digest of each layer."""
        path = self.folder / "saved.tar"
        self.docker("save", f"--output={path}", name)
        saved = read_saved(path)
        assert (saved.id, saved.diff_ids) == self.images[name].identity, name
        assert saved.found_diff_ids == saved.diff_ids, f"{name} is saved with other bytes"
        self.figures.bytes += path.stat().st_size

    def docker(self, *words: str, builder: str = "") -> str:
        """Run a command of the client.

        Raises:
            RefusedError: it failed; the text is what it printed.
        """
        env = {"DOCKER_BUILDKIT": builder} if builder else None
        done = self.daemon.try_docker(*words, env=env)
        if done.returncode:
            raise RefusedError(f"{done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode()

    # --- what can be done ---

    def choices(self) -> dict[Callable[[], Action | None], int]:
        return {
            self._load: 3,
            self._import: 1,
            self._build: 3,
            self._build_with_buildkit: 3,
            self._run: 4,
            self.change_in_a_container: 5,
            self._halt: 1,
            self._continue: 3,
            self._commit: 2,
            self._save_and_load: 2,
            self._diff: 2,
            self._remove_container: 2,
            self._remove_image: 2,
            self._prune: 1,
        }

    def _load(self) -> Action | None:
        if len(self.images) >= MOST_IMAGES:
            return None
        layers, tree = self.new_layers(3)
        name = self.new_name("loaded")
        archive = self.folder / f"{name}.tar"
        image_archive(archive, name, layers, CONFIG)
        self.figures.bytes += archive.stat().st_size

        def run() -> None:
            self.docker("load", f"--input={archive}")

        return self._makes_image("load", name, tree, run)

    def _import(self) -> Action | None:
        if len(self.images) >= MOST_IMAGES:
            return None
        change = some_change(self.chance, {})
        name = self.new_name("imported")
        archive = self.folder / f"{name}.tar"
        archive.write_bytes(content.joined([self.base, change.tar({})]) + bytes(1024))
        self.figures.bytes += archive.stat().st_size

        def run() -> None:
            self.docker("import", "--change=ENV PATH=/bin", str(archive), name)

        return self._makes_image("import", name, change.of({}), run)

    def _build(self) -> Action | None:
        return self._built("build", "0")

    def _build_with_buildkit(self) -> Action | None:
        return self._built("build with BuildKit", "1")

    def _built(self, kind: str, builder: str) -> Action | None:
        images = self.certain(self.images)
        if not images or len(self.images) >= MOST_IMAGES:
            return None
        parent = self.chance.choice(images)
        name = self.new_name("built")
        context = self.folder / name
        files = new_files(self.chance)
        # The classic builder changes owners after modes, which takes set-uid bits away.
        copied = Change(
            written={path: (line, mode & 0o777) for path, (line, mode) in files.items()}
        )
        tree = copied.of(self.images[parent].tree)
        changed = some_change(self.chance, tree)
        copied.write(context)
        (context / "change").write_text(changed.script(tree))
        (context / "Dockerfile").write_text(
            f"FROM {parent}\nCOPY data /data\nCOPY change /change\nRUN sh /change\n"
        )
        tree = changed.of(tree)
        self.figures.bytes += sum(path.stat().st_size for path in context.rglob("*"))

        def run() -> None:
            words = ("build", "--network=none", f"--tag={name}", str(context))
            self.docker(*words, builder=builder)

        return self._makes_image(kind, name, tree, run, frozenset({parent}))

    def _run(self) -> Action | None:
        images = self.certain(self.images)
        if not images or len(self.containers) >= MOST_CONTAINERS:
            return None
        image = self.chance.choice(images)
        change = some_change(self.chance, self.images[image].tree)
        name = self.new_name("container")
        script = change.script(self.images[image].tree)
        tree = change.of(self.images[image].tree)

        def run() -> None:
            self.docker("run", "--detach", "--network=none", f"--name={name}", image, *SLEEP)
            self.execute(name, script)

        def done() -> None:
            self.containers[name] = Container(image, tree)

        return Action("run", frozenset({name}), run, done, frozenset({image}))

    def execute(self, container: str, script: str) -> None:
        """Run a script in a container."""
        self.docker("exec", container, "sh", "-c", script)

    def _halt(self) -> Action | None:
        name = self.some_container(runs=True)
        return self._switched("halt", "kill", name, runs=False) if name else None

    def _continue(self) -> Action | None:
        name = self.some_container(runs=False)
        return self._switched("start", "start", name, runs=True) if name else None

    def _switched(self, kind: str, command: str, name: str, *, runs: bool) -> Action:
        container = self.containers[name]

        def run() -> None:
            self.docker(command, name)
            if not runs:
                self.docker("wait", name)

        def done() -> None:
            container.runs = runs

        return Action(kind, frozenset({name}), run, done)

    def _commit(self) -> Action | None:
        container = self.some_container()
        if not container or len(self.images) >= MOST_IMAGES:
            return None
        name, tree = self.new_name("committed"), self.containers[container].tree

        def run() -> None:
            self.docker("commit", container, name)

        return self._makes_image("commit", name, tree, run, frozenset({container}))

    def _save_and_load(self) -> Action | None:
        image = self._unused_image()
        if not image:
            return None
        archive = self.folder / f"{image}.saved.tar"

        def run() -> None:
            self.docker("save", f"--output={archive}", image)
            self.docker("rmi", image)
            self.docker("load", f"--input={archive}")

        def done() -> None:
            self.figures.bytes += 2 * archive.stat().st_size
            archive.unlink()
            assert self.identity(image) == self.images[image].identity, image

        return Action("save, remove, load", frozenset({image}), run, done)

    def _diff(self) -> Action | None:
        name = self.some_container()
        if not name:
            return None
        container = self.containers[name]
        before = self.images[container.image].tree
        expected = {f"A /{path}" for path in container.tree.keys() - before.keys()}
        shown: list[str] = []

        def run() -> None:
            shown.extend(self.docker("diff", name).splitlines())

        def done() -> None:
            assert expected <= {*shown}, f"diff of {name} does not list {expected - {*shown}}"

        reads = frozenset({name, container.image})
        return Action("diff", frozenset(), run, done, reads)

    def _remove_container(self) -> Action | None:
        name = self.some_container()
        if not name:
            return None

        def run() -> None:
            self.docker("rm", "--force", name)

        def done() -> None:
            self.containers.pop(name)

        return Action("remove a container", frozenset({name}), run, done)

    def _remove_image(self) -> Action | None:
        image = self._unused_image()
        if not image:
            return None

        def run() -> None:
            self.docker("rmi", image)

        def done() -> None:
            self.images.pop(image)

        return Action("remove an image", frozenset({image}), run, done)

    def _prune(self) -> Action | None:
        stopped = [name for name, one in self.containers.items() if not one.runs]

        def run() -> None:
            self.docker("container", "prune", "--force")
            self.docker("image", "prune", "--force")
            self.docker("builder", "prune", "--all", "--force")

        def done() -> None:
            for name in stopped:
                self.containers.pop(name, None)

        return Action("prune", frozenset(stopped), run, done, alone=True)

    def _unused_image(self) -> str | None:
        used = {container.image for container in self.containers.values()}
        images = [name for name in self.certain(self.images) if name not in used]
        return self.chance.choice(images) if images else None

    def _makes_image(
        self,
        kind: str,
        name: str,
        tree: Tree,
        run: Callable[[], None],
        reads: frozenset[str] = frozenset(),
    ) -> Action:
        def done() -> None:
            self.images[name] = Image(tree, self.identity(name))
            for path in (self.folder / f"{name}.tar", self.folder / name):
                if path.is_dir():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)

        return Action(kind, frozenset({name}), run, done, reads)
