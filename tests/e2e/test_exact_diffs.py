"""Layers that are saved bit for bit: by what a daemon can put together, and by a driver's promise.

A daemon keeps the headers of each layer's tar and puts the files' bytes between them again (tar-split).
Where a tar left holes out of a file that cannot be done, in none of the ways to leave them out, on
Docker's own drivers as on ours: that is why our Diff has them as zeros. A driver that promises exact
diffs is asked for the tar itself.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.e2e.homes import home_of
from tests.e2e.tap import Tap
from tests.e2e.test_examples import WITH_A_LOG
from tests.support.daemon import Daemon, DockerError
from tests.support.images import image_archive, read_saved
from tests.support.plugin_process import Plugin
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = f"keeps-tars-{secrets.token_hex(3)}"

SPARSE = {
    "gnu": ["--format=gnu"],
    "0.0": ["--format=posix", "--sparse-version=0.0"],
    "0.1": ["--format=posix", "--sparse-version=0.1"],
    "1.0": ["--format=posix", "--sparse-version=1.0"],
}
SIZE = 8 << 20
ISLAND = b"in the middle\n"
NOT_VERIFIED = "could not verify layer data"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Path:
    """A layer with a sparse file and something to look at it with."""
    root = tmp_path_factory.mktemp("tree")
    (root / "bin").mkdir()
    (root / "bin" / "busybox").write_bytes(busybox)
    (root / "bin" / "busybox").chmod(0o755)
    with open(root / "sparse", "wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE // 2)
        file.write(ISLAND)
    return root


def load(daemon: Daemon, tree: Path, form: str, folder: Path) -> str:
    """Load an image of one layer that GNU tar made in a form; return its ID."""
    command = ["tar", *SPARSE[form], "--sparse", "-C", str(tree), "-c", "."]
    layer = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(layer) < SIZE
    id = image_archive(folder / "image.tar", f"sparse-{form}", [layer], {"Env": ["PATH=/bin"]})
    daemon.docker("load", "--input", str(folder / "image.tar"))
    return id


def save(daemon: Daemon, image: str, folder: Path) -> str:
    """Save an image; return its ID, once the layers have the digests that it says."""
    daemon.docker_to_file(folder / "saved.tar", "save", image)
    saved = read_saved(folder / "saved.tar")
    assert saved.found_diff_ids == saved.diff_ids
    return saved.id


def read_sparse(daemon: Daemon, image: str) -> str:
    """Return what is in the sparse file, without its zeros."""
    return daemon.run(image, "busybox", "sh", "-c", "busybox tr -d '\\000' < /sparse")


@pytest.mark.parametrize("form", SPARSE)
@pytest.mark.parametrize("driver", ["vfs"], indirect=True)  # it is the daemon that cannot
@pytest.mark.reaches("Create", "ApplyDiff", "Get", "Put")
def test_a_layer_with_holes_runs_but_no_daemon_can_save_it_again(
    ours: Daemon, tree: Path, form: str, tmp_path: Path
) -> None:
    load(ours, tree, form, tmp_path)
    assert read_sparse(ours, f"sparse-{form}") == ISLAND.decode()
    with pytest.raises(DockerError, match=NOT_VERIFIED):
        save(ours, f"sparse-{form}", tmp_path)


@pytest.mark.reaches()
def test_nor_can_a_daemon_on_dockers_own_driver(theirs: Daemon, tree: Path, tmp_path: Path) -> None:
    load(theirs, tree, "1.0", tmp_path)
    with pytest.raises(DockerError, match=NOT_VERIFIED):
        save(theirs, "sparse-1.0", tmp_path)
    with pytest.raises(DockerError, match="unhandled tar header type 83"):
        load(theirs, tree, "gnu", tmp_path)


@pytest.mark.reaches("CreateReadWrite", "Diff", "ApplyDiff")
def test_a_sparse_file_that_a_container_made_is_committed_saved_and_sparse_again(
    ours: Daemon, driver: str, small: Path, tmp_path: Path
) -> None:
    ours.docker("load", "--input", str(small))
    before = set(home_of(ours).rglob("made-sparse"))
    make = "busybox truncate -s 64M /made-sparse && echo island >> /made-sparse"
    ours.docker("run", "--name=one", "--network=none", "small", "sh", "-c", make)
    ours.docker("commit", "one", "committed")
    ours.docker("rm", "one")
    save(ours, "committed", tmp_path)
    size = (64 << 20) + len("island\n")
    if driver == "erofs":  # its tar is stored as it came, with all zeros
        assert ours.run("committed", "busybox", "stat", "-c", "%s", "/made-sparse") == f"{size}\n"
        return
    (made,) = set(home_of(ours).rglob("made-sparse")) - before
    assert made.stat().st_size == size
    assert made.stat().st_blocks * 512 < 8 << 20  # not all pieces that come by a socket are big


# --- a driver that keeps the tars -----------------------------------------------------------------


@pytest.fixture(scope="module")
def exact(engines: Engines) -> Iterator[tuple[Daemon, Plugin]]:
    """A daemon on the example."""
    command = [sys.executable, "-c", WITH_A_LOG, str(EXAMPLES / "keeps_tars.py"), NAME]
    with engines.on_plugin("keeps_tars:KeepsTars", name=NAME, command=command) as both:
        yield both


@pytest.mark.parametrize("form", SPARSE)
@pytest.mark.reaches("Create", "ApplyDiff", "Diff", "Remove")
def test_a_driver_that_keeps_the_tar_is_asked_for_it(
    exact: tuple[Daemon, Plugin], tree: Path, form: str, tmp_path: Path
) -> None:
    daemon, plugin = exact
    id = load(daemon, tree, form, tmp_path)
    assert read_sparse(daemon, f"sparse-{form}") == ISLAND.decode()
    mark = plugin.mark()
    assert save(daemon, f"sparse-{form}", tmp_path) == id

    def calls() -> list[str]:
        return [call.method for call in plugin.calls(mark) if call.method != "Status"]

    wait_until(calls)  # the line comes after the last byte
    assert calls() == ["Diff"]
    daemon.docker("rmi", f"sparse-{form}")


@pytest.mark.reaches("CreateReadWrite", "Changes", "Diff", "ApplyDiff")
def test_what_is_committed_and_built_on_it_keeps_its_digests(
    exact: tuple[Daemon, Plugin], small: Path, tmp_path: Path
) -> None:
    daemon, _ = exact
    daemon.docker("load", "--input", str(small))
    change = "rm /data/file && echo new > /data/new"
    daemon.docker("run", "--name=one", "--network=none", "small", "sh", "-c", change)
    assert sorted(daemon.docker("diff", "one").split("\n")) == [
        "",
        "A /data/new",
        "C /data",
        "D /data/file",
    ]
    daemon.docker("commit", "one", "committed")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM committed\nCOPY Dockerfile /copied\nRUN ["sh", "-c", "cat /copied > /run-too"]\n'
    )
    for builder in ("0", "1"):
        build = ["build", "--network=none", "--no-cache", "--tag", f"built-{builder}", str(context)]
        daemon.docker(*build, env={"DOCKER_BUILDKIT": builder})
    for image in ("committed", "built-0", "built-1"):
        id = daemon.docker("inspect", "--format", "{{.Id}}", image).strip()
        assert save(daemon, image, tmp_path) == id
        assert save(daemon, image, tmp_path) == id
    daemon.docker("rm", "one")
    daemon.clear()


@pytest.mark.parametrize("is_new", [False, True], ids=["the same plugin", "a new one"])
@pytest.mark.reaches("Create", "ApplyDiff", "Remove", "Diff", failing=("ApplyDiff",))
def test_a_tar_is_not_replaced_by_what_a_daemon_sends_that_missed_the_answer(
    engines: Engines, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    """What it sends then is the end of the tar, here nothing: well-formed, and it would be believed."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES), prepend=":")
    with (
        engines.plugin("keeps_tars:KeepsTars", name=f"exact-{secrets.token_hex(3)}") as plugin,
        Tap(plugin) as tap,
        engines.on_driver(tap.name) as daemon,
    ):
        hold = tap.hold("ApplyDiff")
        loading = daemon.begin_docker("load", "--input", str(small))
        layer = hold.wait()
        wait_until(lambda: ("ApplyDiff", layer, 200) in answered(plugin))
        if is_new:
            plugin.kill()
        tap.cut()
        if is_new:
            plugin.start()
        said, _ = loading.communicate(timeout=120)
        assert loading.returncode == 1, said
        assert b"remove it and load again" in said
        daemon.docker("load", "--input", str(small))
        save(daemon, "small", tmp_path)


def answered(plugin: Plugin) -> list[tuple[str, str, int]]:
    return [(call.method, call.layer, call.status) for call in plugin.calls()]


WITHOUT_THE_PROMISE = """
import keeps_tars
from graphdriver import Capabilities

class KeepsTars(keeps_tars.KeepsTars):
    def capabilities(self):
        return Capabilities()
"""


@pytest.mark.reaches("Init", "ApplyDiff", failing=("Init",))
def test_a_home_is_bound_to_the_promise_that_was_made_in_it(
    engines: Engines, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without.py").write_text(WITHOUT_THE_PROMISE)
    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLES}:{tmp_path}", prepend=":")
    name = f"once-exact-{secrets.token_hex(3)}"
    with engines.daemon(name) as daemon:
        with engines.plugin("keeps_tars:KeepsTars", name=name):
            daemon.start()
            daemon.docker("load", "--input", str(small))
            daemon.stop()
        with engines.plugin("without:KeepsTars", name=name) as plugin:
            with pytest.raises(DockerError, match="driver not supported"):
                daemon.start()
            assert "were kept with the promise of exact diffs" in plugin.tail()
        with engines.plugin("keeps_tars:KeepsTars", name=name):
            daemon.start()
            assert daemon.run("small", "cat", "/data/file") == "from the image\n"
            daemon.stop()
