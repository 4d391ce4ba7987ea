"""``graphdriver share``: an operator fills a store, looks at it, checks it and tidies it up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.driver import mounted
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerExistsError
from graphdriver.serving.served_home import ServedHome
from graphdriver.shared.keys import chained_key
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.opening import open_store
from tests.support.command import graphdriver
from tests.support.containerd_images import ten_layers, write_image
from tests.support.documented import block
from tests.support.leftovers import mounts_below
from tests.support.registry import registry
from tests.support.seaweedfs import seaweedfs_s3
from tests.support.shared_store import links_of

pytestmark = pytest.mark.root

LAYERS = ten_layers(50)
DIFF_IDS = [one.diff_id for one in links_of(LAYERS)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the layers of an image."""
    (tmp_path / "store").mkdir()
    write_image(tmp_path / "image.tar", "a:b", LAYERS)
    pushed = push(tmp_path)
    assert [one["diff_id"] for one in pushed["layers"]] == DIFF_IDS
    assert {one["outcome"] for one in pushed["layers"]} == {"new"}
    return tmp_path / "store"


def push(folder: Path) -> Any:
    work = ["--work", str(folder), "--json"]
    done = graphdriver("share", "push", *work, str(folder / "store"), str(folder / "image.tar"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked(*words: str, code: int = 0) -> Any:
    done = graphdriver("share", *words, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_what_was_pushed_is_listed_and_nothing_else_is_left(store: Path) -> None:
    assert len(asked("ls", str(store))["layers"]) == len(LAYERS)
    assert sorted(os.listdir(store.parent)) == ["image.tar", "store"]
    assert os.listdir(store / ".new") == []


def test_pushing_again_changes_nothing(store: Path) -> None:
    pushed = push(store.parent)
    assert [one["outcome"] for one in pushed["layers"]] == ["there"] * len(LAYERS)


def test_a_push_that_was_interrupted_is_completed_by_the_next_one(store: Path) -> None:
    (store / f"{chained_key(DIFF_IDS[0])}.erofs").unlink()
    outcomes = [one["outcome"] for one in push(store.parent)["layers"]]
    assert outcomes == ["new"] + ["there"] * (len(LAYERS) - 1)
    assert asked("verify", str(store))["damaged"] == []


def test_damage_is_found_and_removed(store: Path) -> None:
    path = store / f"{chained_key(DIFF_IDS[0])}.erofs"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    (damaged,) = asked("verify", str(store), code=14)["damaged"]
    assert DIFF_IDS[0] in damaged["problem"]
    asked("verify", "--remove", str(store))
    assert asked("verify", str(store))["damaged"] == []
    assert not path.exists()


def test_what_nobody_used_for_long_is_removed_only_on_demand(store: Path) -> None:
    path = store / f"{chained_key(DIFF_IDS[0])}.erofs"
    os.utime(path, (0, 0))
    gc = ("gc", "--unused-for", "1d", str(store))
    assert [one["key"] for one in asked(*gc, code=13)["unused"]] == [str(path.relative_to(store))]
    assert path.exists()
    asked(*gc, "--remove")
    assert not path.exists()
    assert asked(*gc)["unused"] == []


def test_an_upload_that_was_cut_off_is_removed_too(store: Path) -> None:
    left = store / ".new" / "0123.erofs"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    asked("gc", "--unused-for", "1h", "--remove", str(store))
    assert not left.exists()


def test_a_person_reads_one_line_for_each_layer(store: Path) -> None:
    text = graphdriver("share", "ls", str(store)).stdout.decode()
    assert f"{store}: {len(LAYERS)} layers" in text
    text = graphdriver("share", "verify", str(store)).stdout.decode()
    assert f"{store}: {len(LAYERS)} layers, sound" in text


def other(store: Path, name: str = "other") -> Path:
    """Make another store."""
    place = store.parent / name
    place.mkdir()
    return place


def objects(store: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(store)): one.read_bytes() for one in store.rglob("*") if one.is_file()
    }


def test_a_copy_of_a_store_is_the_same_and_is_made_once(store: Path) -> None:
    copy = other(store)
    words = ("pull", str(store), "--to", str(copy), "--work", str(store.parent))
    assert {one["outcome"] for one in asked(*words)["layers"]} == {"new"}
    assert objects(copy) == objects(store)
    assert {one["outcome"] for one in asked(*words)["layers"]} == {"there"}


def test_some_layers_are_copied_with_those_below_them(store: Path) -> None:
    links = links_of(LAYERS)
    for name, digest in (("by-chain", links[2].chain_id), ("by-diff", links[2].diff_id)):
        copy = other(store, name)
        words = ("pull", str(store), digest, "--to", str(copy), "--work", str(store.parent))
        assert [one["diff_id"] for one in asked(*words)["layers"]] == DIFF_IDS[:3]


def test_a_copy_of_a_damaged_layer_is_not_made(store: Path) -> None:
    path = store / f"{chained_key(DIFF_IDS[0])}.erofs"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    copy = other(store)
    words = ("pull", str(store), "--to", str(copy), "--work", str(store.parent))
    done = graphdriver("share", *words)
    assert done.returncode
    assert f"not {DIFF_IDS[0]}" in done.stderr.decode()
    assert not objects(copy)


def test_what_is_not_in_a_store_cannot_be_copied(store: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    done = graphdriver("share", "pull", str(store), digest, "--to", str(other(store)))
    assert done.returncode
    assert f"{digest} is not in {store}; list" in done.stderr.decode()


def test_what_a_node_has_is_pushed_from_its_home(store: Path) -> None:
    root, shared = store.parent / "root", SharedLayers(open_store(str(store)))
    snapshots = SharedSnapshots(make("erofs"), str(root), ["sync=none"], shared=shared, wait=20)
    with contextlib.closing(snapshots):  # the home is served meanwhile
        parent = ""
        for number, link in enumerate(links_of(LAYERS)):
            with pytest.raises(LayerExistsError):
                snapshots.prepare(f"default/{number}/extract", parent, {REF: link.chain_id})
            (layer,) = snapshots.find([f'labels."{REF}"=={link.chain_id}'])
            parent = layer.key
        snapshots.prepare("default/9/container", parent, {})
        container = snapshots.stat("default/9/container").layer
        with mounted(snapshots.served.driver, container) as tree:
            Path(tree, "secret").write_text("secret")
        copy = other(store)
        pushed = asked("push", str(copy), str(root), "--work", str(store.parent))["layers"]
    for point in mounts_below(root):
        subprocess.run(["umount", "--lazy", point], check=True)
    assert [one["diff_id"] for one in pushed] == DIFF_IDS
    assert objects(copy) == objects(store)


def test_a_home_of_a_driver_that_keeps_no_tars_is_refused(store: Path) -> None:
    home = store.parent / "home"
    with contextlib.closing(ServedHome(make("vfs"), "Docker")) as served:
        served.claim(str(home), [])
    done = graphdriver("share", "push", str(store), str(home), "--work", str(store.parent))
    assert done.returncode == 7
    assert b"the driver vfs does not keep their tars" in done.stderr


def test_a_registry_is_filled_checked_and_tidied_up(tmp_path: Path) -> None:
    with registry(tmp_path) as address:
        documented = "oci://registry.example:5000/site/layers"
        fill_and_tidy_up(tmp_path, documented, f"oci+http://{address}/site/layers")


@pytest.mark.long
def test_a_bucket_is_filled_checked_and_tidied_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seaweedfs_s3(tmp_path, "127.77.0.2", "layers") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fill_and_tidy_up(tmp_path, "s3://layers/site", "s3://layers/site")


def fill_and_tidy_up(folder: Path, documented: str, store: str) -> None:
    """Do with a store what the documentation shows."""
    write_image(folder / "image.tar", "a:b", LAYERS)
    lines = block("docs/shared-layers.md", "sh", f"share push {documented}").splitlines()
    (line,) = (line for line in lines if " share push " in line)
    words = line.replace(documented, store).split()[2:]
    words[-1] = str(folder / "image.tar")
    for outcome in ("new", "there"):
        pushed = asked(*words, "--work", str(folder))
        assert {one["outcome"] for one in pushed["layers"]} == {outcome}
    assert len(asked("ls", store)["layers"]) == len(LAYERS)
    assert asked("verify", store)["damaged"] == []
    assert asked("gc", "--unused-for", "1d", store)["unused"] == []
    asked("gc", "--unused-for", "0s", "--remove", store)
    assert asked("ls", store)["layers"] == []


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("ls", "/nowhere"), 1, "mount it"),
        (("ls", "/proc"), 1, "has no directory chains, so it is no store"),
        (("ls", "/etc/passwd"), 7, "is not a directory"),
        (("ls", "oci://127.0.0.1:1/layers"), 1, "/v2/layers/tags/list: "),
        (("ls", "oci://127.0.0.1:1"), 2, "oci://HOST/REPOSITORY"),
        (("gc", "--unused-for", "soon", "/"), 2, "is not a time"),
        (("gc", "/"), 2, "needs --unused-for"),
        (("ls", "/", "image.tar"), 2, "takes no sources"),
        (("push", "/"), 2, "push takes archives"),
        (("pull", "/"), 2, "needs --to"),
        (("verify", "/", "--to", "/"), 2, "belongs to pull"),
        (("push", "/", "image.tar", "--remove"), 2, "belongs to verify and gc"),
        (("verify", "/", "--unused-for", "3d"), 2, "belongs to gc"),
        (("push", "/tmp", "/nowhere.tar"), 7, "cannot be opened"),
        (("push", "/tmp", "a.tar", "--work", "/nowhere"), 2, "--work /nowhere is not a directory"),
        (("push", "/tmp", "a.tar", "--work", "/proc"), 7, "layers cannot be made in /proc"),
        (("pull", "/tmp", "sha256:ab", "--to", "/tmp"), 2, "is no chain ID and no diff ID"),
        (("ls", "oci://127.0.0.1:65536/layers"), 2, "oci://HOST/REPOSITORY"),
    ],
)
def test_a_mistake_is_told(words: tuple[str, ...], code: int, problem: str) -> None:
    done = graphdriver("share", *words)
    assert (done.returncode, problem in done.stderr.decode()) == (code, True)


def test_what_a_node_reads_in_place_is_not_removed(store: Path) -> None:
    key = f"{chained_key(DIFF_IDS[0])}.erofs"
    path = store / key
    lease = store / "leases" / key / "node-1.lease"
    lease.parent.mkdir(parents=True)
    lease.touch()
    os.utime(path, (0, 0))
    assert asked("gc", "--unused-for", "1d", "--remove", str(store))["unused"] == []
    os.truncate(path, 5000)
    done = graphdriver("share", "verify", "--remove", str(store))
    assert done.returncode == 14
    assert b"not removed: a node reads it in place" in done.stdout
    assert path.exists()


def test_a_proxy_that_is_none_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks://me:correct-horse@127.0.0.1:1")
    done = graphdriver("share", "ls", "oci://registry.invalid/layers")
    assert done.returncode == 7
    assert b"a proxy for https that cannot be used" in done.stderr
    assert b"correct-horse" not in done.stderr


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_a_push_that_is_stopped_leaves_nothing_half(number: int, tmp_path: Path) -> None:
    for name in ("store", "work"):
        (tmp_path / name).mkdir()
    write_image(tmp_path / "image.tar", "a:b", LAYERS)
    words = ["push", "--json", "--work", str(tmp_path / "work"), str(tmp_path / "store")]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, "share", *words, str(tmp_path / "image.tar")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    assert process.stderr.readline() == b"in the middle\n"
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, b"", b"")
    assert os.listdir(tmp_path / "work") == []
    assert mounts_below(tmp_path) == []
    assert {one["outcome"] for one in push(tmp_path)["layers"]} <= {"new", "there"}
    assert asked("verify", str(tmp_path / "store"))["damaged"] == []


STOPPED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from graphdriver.cli.main import main
from graphdriver.shared.layers import SharedLayers

put = SharedLayers.put
count = 0

def stop(self, *arguments):
    global count
    count += 1
    if count == 3:
        print("in the middle", file=sys.stderr, flush=True)
        for _ in range(600):  # a signal that comes just before a sleep does not end it
            time.sleep(0.1)
    return put(self, *arguments)

SharedLayers.put = stop
sys.exit(main(sys.argv[1:]))
"""
