"""``graphdriver gc`` as a process, on homes whose engine's records are written by hand."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphdriver.care.engine_locks import DOCKER
from graphdriver.drivers.loading import make
from graphdriver.serving.served_home import ServedHome
from tests.support.bolt_pages import write_bolt
from tests.support.command import environment, graphdriver
from tests.support.docker_root import DockerRoot
from tests.support.ground import tool
from tests.support.long import times

pytestmark = pytest.mark.root

A = f"sha256:{'a' * 64}"
BASE = "1" * 64
CONTAINER = "2" * 64


@pytest.fixture
def root(tmp_path: Path) -> DockerRoot:
    """A data root with an image and a container, and two lost layers on the image."""
    made = DockerRoot(tmp_path / "data")
    made.layer(BASE, [A])
    made.image_of([A], "small:latest")
    made.container("c" * 64, "mine", CONTAINER, [A])
    (made.path / DOCKER[0]).parent.mkdir()
    (made.path / DOCKER[0]).touch()
    add(
        made.home,
        {
            BASE: "",
            f"{CONTAINER}-init": BASE,
            CONTAINER: f"{CONTAINER}-init",
            "lost": BASE,
            "upper": "lost",
        },
    )
    return made


def add(home: Path, layers: dict[str, str]) -> None:
    """Make layers, a file in each, as a plugin does."""
    served = ServedHome(make("overlay2"), "docker")
    served.claim(str(home))
    served.init_driver()
    for id, parent in layers.items():
        served.driver.create(id, parent, "", {})
        Path(served.driver.get(id, ""), "file").write_text(id)
        served.driver.put(id)
    served.close()


def layers(home: Path) -> set[str]:
    return {one.name for one in home.iterdir() if one.is_dir() and one.name[0] != "."} - {"l"}


def test_a_list_changes_nothing(root: DockerRoot) -> None:
    before = sorted(root.home.rglob("*"))
    done = graphdriver("gc", str(root.home))
    assert done.returncode == 13, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["upper", "lost"]
    assert "5 layers, 2 without a record" in lines[3]
    assert sorted(root.home.rglob("*")) == before


def test_what_has_no_record_is_removed_and_nothing_else(root: DockerRoot) -> None:
    done = graphdriver("gc", "--remove", "--json", str(root.home))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [(one["id"], one["removed"]) for one in shown["layers"]] == [
        ("upper", True),
        ("lost", True),
    ]
    assert layers(root.home) == {BASE, CONTAINER, f"{CONTAINER}-init"}
    assert not list((root.home / ".trash").iterdir())
    again = graphdriver("gc", str(root.home))
    assert (again.returncode, again.stderr) == (0, b"")
    assert again.stdout.decode() == f"{root.home}: 3 layers, each has a record\n"


def test_nothing_is_removed_while_a_daemon_runs(root: DockerRoot) -> None:
    with open(root.path / DOCKER[0], "rb") as database:
        fcntl.flock(database, fcntl.LOCK_EX)
        done = graphdriver("gc", "--remove", str(root.home))
    assert done.returncode == 5
    assert f"process {os.getpid()} ".encode() in done.stderr
    assert "lost" in layers(root.home)


def test_nothing_is_removed_while_a_plugin_serves_the_home(root: DockerRoot) -> None:
    served = ServedHome(make("overlay2"), "docker")
    served.claim(str(root.home))
    done = graphdriver("gc", "--remove", str(root.home))
    served.close()
    assert done.returncode == 5
    assert b"is served by" in done.stderr


def test_nothing_is_removed_if_a_record_cannot_be_read(root: DockerRoot) -> None:
    database = root.path / "buildkit/snapshots.db"
    database.parent.mkdir()
    for name in ("snapshots.db", "metadata_v2.db", "containerdmeta.db"):
        write_bolt(database.with_name(name), {})
    os.truncate(database, 2048)
    done = graphdriver("gc", "--remove", str(root.home))
    assert done.returncode == 1
    assert f"{database} is damaged".encode() in done.stderr
    assert "lost" in layers(root.home)


def refused(root: DockerRoot, *texts: str) -> None:
    """Check that nothing is removed, and that the error says why."""
    before = layers(root.home)
    done = graphdriver("gc", "--remove", str(root.home))
    assert done.returncode == 1, done.stdout
    assert all(text.encode() in done.stderr for text in texts), done.stderr
    assert layers(root.home) == before


def test_nothing_is_removed_by_the_records_of_another_home(root: DockerRoot) -> None:
    """A home that was moved into the data root of another daemon, which may never have had a layer."""
    shutil.rmtree(root.image / "layerdb/sha256")
    shutil.rmtree(root.image / "layerdb/mounts")
    shutil.rmtree(root.image / "imagedb")
    shutil.rmtree(root.path / "containers")
    refused(root, "none of the 5 layers has a record", "no records at all", "see that")
    root.image.joinpath("layerdb/sha256").mkdir()
    root.layer("9" * 64, [A])
    refused(root, "none of the 5 layers has a record", "are others", "see that")
    shutil.rmtree(root.image)
    refused(root, f"{root.image}/layerdb")


def test_nothing_is_removed_if_a_container_has_no_record_of_its_layer(root: DockerRoot) -> None:
    shutil.rmtree(root.image / "layerdb/mounts")
    refused(root, "the layer of the container mine has no record")


def test_a_directory_that_is_no_layer_is_left(root: DockerRoot) -> None:
    """A home may be a filesystem of its own; and its administrator may keep something there."""
    for name in ("lost+found", "backup"):
        (root.home / name / "mine").mkdir(parents=True)
    done = graphdriver("gc", "--remove", str(root.home))
    assert done.returncode == 0, done.stderr
    assert layers(root.home) == {
        *(BASE, CONTAINER, f"{CONTAINER}-init"),
        *("lost+found", "backup"),
    }


def test_a_record_cannot_make_a_command_import_a_module(root: DockerRoot, tmp_path: Path) -> None:
    record = root.home / ".graphdriver/home.json"
    record.write_text(record.read_text().replace("overlay2", "evil:Driver"))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for command in (("gc", root.home), ("doctor", "--data-root", root.path)):
        done = graphdriver(*map(str, command), path=str(tmp_path))
        assert done.returncode, done.stdout
    assert not (tmp_path / "ran").exists()


def test_a_directory_that_is_no_home_is_wrong_usage(tmp_path: Path) -> None:
    done = graphdriver("gc", str(tmp_path))
    assert done.returncode == 2
    assert b"is not a home" in done.stderr


def test_a_kill_at_any_moment_leaves_a_home_that_works(root: DockerRoot) -> None:
    """And the next run goes on."""
    lost = {f"lost{number}": BASE for number in range(20)}
    draw = random.Random(1)
    for _ in range(times(gate=3, long=30)):
        add(root.home, {id: BASE for id in lost if id not in layers(root.home)})
        process = subprocess.Popen(
            [sys.executable, "-m", "graphdriver", "gc", "--remove", str(root.home)],
            env=environment(),
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None and "lost0" in layers(root.home):
            time.sleep(0.001)
        time.sleep(draw.random() / 50)
        process.send_signal(signal.SIGKILL)
        process.wait()
        served = ServedHome(make("overlay2"), "docker")
        served.claim(str(root.home))
        served.init_driver()
        for id in {BASE, CONTAINER}:
            assert Path(served.driver.get(id, ""), "file").read_text() == id
            served.driver.put(id)
        for id in layers(root.home) & lost.keys():
            assert Path(served.driver.get(id, ""), "file").read_text() == id
            served.driver.put(id)
        served.close()
    assert graphdriver("gc", "--remove", str(root.home)).returncode == 0
    assert layers(root.home) == {BASE, CONTAINER, f"{CONTAINER}-init"}


def test_a_layer_that_is_mounted_is_left(root: DockerRoot) -> None:
    """A process may run on it."""
    add(root.home, {"busy": "lost"})
    served = ServedHome(make("overlay2"), "docker")
    served.claim(str(root.home))
    served.init_driver()
    served.driver.get("busy", "")
    served.close()
    done = graphdriver("gc", "--remove", str(root.home))
    assert done.returncode == 0, done.stderr
    assert layers(root.home) == {BASE, CONTAINER, f"{CONTAINER}-init", "lost", "busy"}
    subprocess.run([tool("umount"), root.home / "busy/merged"], check=True)
    assert graphdriver("gc", "--remove", str(root.home)).returncode == 0
    assert layers(root.home) == {BASE, CONTAINER, f"{CONTAINER}-init"}
