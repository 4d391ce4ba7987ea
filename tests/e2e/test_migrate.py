"""A daemon's images and containers on another storage driver, and back: all is as it was."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.command import graphdriver
from tests.support.daemon import Daemon

DRIVERS = ("overlay2", "vfs", "btrfs")
BUILDKIT = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
DOCKERFILE = """\
FROM small
RUN rm /data/file && sync && echo built > /data/built
"""
WRITES = """
echo changed >> /data/file; echo new > /new; rm /bin/tail; echo a > /data/a
"""


@pytest.fixture(
    params=[
        one if one == "overlay2" else pytest.param(one, marks=pytest.mark.long) for one in DRIVERS
    ]
)
def theirs(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Daemon]:
    """A daemon on Docker's own driver."""
    with engines.on_driver(request.param) as daemon:
        yield daemon


def fill(daemon: Daemon, small: Path, context: Path) -> None:
    """Load an image, build one in either way, and leave containers that have written."""
    (context / "Dockerfile").write_text(DOCKERFILE)
    daemon.docker("load", "--input", str(small))
    daemon.docker("tag", "small", "again:1")
    daemon.docker("build", "--network=none", "--tag=classic", str(context))
    build(daemon, context)
    daemon.docker("run", "--network=none", "--name=stopped", "small", "sh", "-c", WRITES)
    daemon.docker("create", "--network=none", "--name=created", "built", "cat", "/data/built")
    command = ("sh", "-c", "echo 1 >> /count; sleep 600")
    daemon.docker("run", "--detach", "--network=none", "--name=running", "built", *command)


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
                entries(archive),
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


def entries(archive: tarfile.TarFile) -> list[object]:
    """Return what is in a tar, with a digest of each file."""
    found: list[object] = []
    for one in archive:
        file = archive.extractfile(one) if one.isfile() else None
        digest = hashlib.sha256(file.read()).hexdigest() if file else ""
        found.append(
            (one.name, one.type, one.mode, one.uid, one.gid, one.mtime, one.linkname, digest)
        )
    return sorted(found, key=str)


def migrate(daemon: Daemon, source: str, target: str, *words: str) -> str:
    """Move everything; return the plan."""
    command = ("migrate", str(daemon.root), "--from", source, "--to", target, *words)
    done = graphdriver(*command)
    assert done.returncode == 0, done.stderr
    daemon.switch_to(target.partition("=")[0])
    return done.stdout.decode()


@pytest.mark.reaches("Init", "Get", "CreateReadWrite")
def test_there_and_back(theirs: Daemon, engines: Engines, small: Path, tmp_path: Path) -> None:
    driver = theirs.storage_driver
    fill(theirs, small, tmp_path)
    theirs.stop()
    theirs.start()
    before = shown(theirs, tmp_path)
    theirs.stop()

    plugin = engines.new_plugin(driver)
    plan = migrate(theirs, driver, f"{plugin.name}={driver}", "--yes")
    assert f"start the daemon with -s {plugin.name}" in plan
    plugin.start()
    theirs.start()
    assert shown(theirs, tmp_path) == before
    use(theirs, tmp_path)
    theirs.stop()
    plugin.stop()
    fsck = graphdriver("fsck", str(theirs.root / plugin.name))
    assert fsck.returncode == 0, fsck.stdout

    migrate(theirs, plugin.name, driver, "--yes")
    theirs.start()
    after = shown(theirs, tmp_path)
    assert {key: one for key, one in after.items() if key != "running"} == {
        key: one for key, one in before.items() if key != "running"
    }
    use(theirs, tmp_path, count="1\n1\n1\n")
    assert sorted(one.name for one in theirs.root.iterdir() if one.name[0] == ".") == []


def use(daemon: Daemon, context: Path, count: str = "1\n1\n") -> None:
    """Write to a moved container, read a moved image, and build on the moved cache."""
    daemon.docker("start", "running")
    assert daemon.docker("exec", "running", "cat", "/count") == count
    daemon.docker("stop", "--time=0", "running")
    assert daemon.docker("start", "--attach", "created") == "built\n"
    assert daemon.run("again:1", "cat", "/data/file") == "from the image\n"
    assert "CACHED" in build(daemon, context)
