"""A daemon's images and containers on another storage driver, and back: all is as it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.e2e.engines import FILESYSTEMS, Engines
from tests.e2e.subids import USER, subordinate_ids
from tests.support.command import graphdriver
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

WAYS = (
    ("overlay2", "py-overlay2", "overlay2"),
    ("overlay2", "py-erofs", "overlay2"),
)
MORE_WAYS = (
    ("vfs", "py-vfs", "vfs"),
    ("btrfs", "py-btrfs", "btrfs"),
    ("vfs", "py-erofs", "py-vfs", "vfs"),
    ("btrfs", "py-overlay2", "py-btrfs", "btrfs"),
    ("overlay2", "py-fuse-overlayfs", "py-vfs", "py-erofs", "overlay2"),
)
"""Storage drivers that a daemon has one after another; ``py-`` stands for a plugin."""
BUILDKIT = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
DOCKERFILE = """\
FROM small
RUN rm /data/file && sync && echo built > /data/built
"""
WRITES = """
echo changed >> /data/file; echo new > /new; rm /bin/tail; echo a > /data/a
"""


def fill(daemon: Daemon, small: Path, context: Path) -> None:
    """Load an image, build one in either way, and leave containers that have written."""
    (context / "Dockerfile").write_text(DOCKERFILE)
    daemon.docker("load", "--input", str(small))
    daemon.docker("tag", "small", "again:1")
    classic = {"DOCKER_BUILDKIT": "0"}
    daemon.docker("build", "--network=none", "--tag=classic", str(context), env=classic)
    build(daemon, context)
    daemon.docker("run", "--network=none", "--name=stopped", "small", "sh", "-c", WRITES)
    daemon.docker("create", "--network=none", "--name=created", "built", "cat", "/data/built")
    command = ("sh", "-c", "echo 1 >> /count; sleep 600")
    daemon.docker("run", "--detach", "--network=none", "--name=running", "built", *command)
    await_count(daemon, "1\n")


def await_count(daemon: Daemon, count: str) -> None:
    """Wait until the container has written so far: it is said to run before it does."""
    wait_until(
        lambda: daemon.try_docker("exec", "running", "cat", "/count").stdout == count.encode()
    )


def build(daemon: Daemon, context: Path) -> str:
    """Build with BuildKit; return what it told."""
    done = daemon.try_docker("build", "--network=none", "--tag=built", str(context), env=BUILDKIT)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).decode()


def shown(daemon: Daemon, folder: Path) -> dict[str, object]:
    """Return all that users see of images and containers, with the bytes of both."""
    images = json.loads(daemon.docker("image", "inspect", "small", "again:1", "classic", "built"))
    found: dict[str, object] = {}
    for image in images:
        saved = folder / "saved.tar"
        daemon.docker_to_file(saved, "save", image["Id"])
        with tarfile.open(saved) as archive:
            found[image["Id"]] = (
                sorted(image["RepoTags"]),
                image["RootFS"],
                image["Size"],
                # The layers are files in it, and some versions of Docker give files the time of now.
                [(one[0], one[-1]) for one in entries(archive)],
            )
    for name in ("stopped", "created", "running"):
        told = json.loads(daemon.docker("container", "inspect", name))[0]
        exported = folder / "exported.tar"
        daemon.docker_to_file(exported, "export", name)
        with tarfile.open(exported) as archive:
            found[name] = (
                *(told[key] for key in ("Id", "Created", "Name", "Image", "Config", "HostConfig")),
                told["State"]["ExitCode"],
                sorted(daemon.docker("diff", name).splitlines()),
                entries(archive),
            )
    return found


def entries(archive: tarfile.TarFile) -> list[tuple[object, ...]]:
    """Return what is in a tar, with a digest of each file."""
    found: list[tuple[object, ...]] = []
    for one in archive:
        file = archive.extractfile(one) if one.isfile() else None
        digest = hashlib.sha256(file.read()).hexdigest() if file else ""
        found.append(
            (one.name, one.type, one.mode, one.uid, one.gid, one.mtime, one.linkname, digest)
        )
    return sorted(found, key=str)


def migrate(daemon: Daemon, target: str, *words: str) -> str:
    """Move everything to a driver, NAME or NAME=DRIVER; return the plan."""
    command = ("migrate", str(daemon.root), "--from", daemon.storage_driver, "--to", target, *words)
    done = graphdriver(*command)
    assert done.returncode == 0, done.stderr
    daemon.switch_to(target.partition("=")[0])
    return done.stdout.decode()


@pytest.mark.reaches("Init", "Get", "CreateReadWrite")
@pytest.mark.parametrize(
    "way", [*WAYS, *(pytest.param(one, marks=pytest.mark.long) for one in MORE_WAYS)], ids=" ".join
)
def test_there_and_back(
    way: tuple[str, ...], engines: Engines, small: Path, tmp_path: Path
) -> None:
    go(way, engines, small, tmp_path)


@pytest.mark.long
@pytest.mark.reaches("Init", "Get", "CreateReadWrite")
def test_there_and_back_with_remapped_ids(engines: Engines, small: Path, tmp_path: Path) -> None:
    with subordinate_ids():
        go(("overlay2", "py-erofs", "overlay2"), engines, small, tmp_path, {"userns-remap": USER})


def go(
    way: Sequence[str],
    engines: Engines,
    small: Path,
    tmp_path: Path,
    config: Mapping[str, object] | None = None,
) -> None:
    """Fill a daemon on the first driver, and move it from each to the next; all stays the same."""
    first, *others = way
    # Each driver works on the filesystem of those that need a certain one.
    kinds = [one.removeprefix("py-") for one in way]
    behind = next((one for one in kinds if one in FILESYSTEMS), first)
    with engines.on_driver(first, config, behind=behind) as daemon:
        fill(daemon, small, tmp_path)
        daemon.stop()
        daemon.start()
        before = shown(daemon, tmp_path)
        daemon.stop()
        for number, storage_driver in enumerate(others):
            with contextlib.ExitStack() as held:
                target, plugin = storage_driver, None
                if storage_driver.startswith("py-"):
                    plugin = engines.new_plugin(storage_driver.removeprefix("py-"))
                    held.callback(plugin.close)
                    target = f"{plugin.name}={plugin.driver}"
                plan = migrate(daemon, target, "--yes")
                assert f"start the daemon with -s {daemon.storage_driver}" in plan
                if plugin:
                    plugin.start()
                daemon.start()
                assert shown(daemon, tmp_path) == before
                use(daemon, tmp_path, count="1\n" * (number + 2))
                before["running"] = shown(daemon, tmp_path)["running"]
                daemon.stop()
                if plugin:
                    plugin.stop()
                    fsck = graphdriver("fsck", str(daemon.root / plugin.name))
                    assert fsck.returncode == 0, fsck.stdout
        assert sorted(one.name for one in daemon.root.iterdir() if one.name[0] == ".") == []


def use(daemon: Daemon, context: Path, count: str) -> None:
    """Write to a moved container, read a moved image, and build on the moved cache."""
    daemon.docker("start", "running")
    await_count(daemon, count)
    daemon.docker("stop", "--time=0", "running")
    assert daemon.docker("start", "--attach", "created") == "built\n"
    assert daemon.run("again:1", "cat", "/data/file") == "from the image\n"
    assert "CACHED" in build(daemon, context)
