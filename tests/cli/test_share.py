"""``graphdriver share``: an operator fills a store, looks at it, checks it and tidies it up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from graphdriver.shared.keys import chained_key
from tests.support.command import graphdriver
from tests.support.containerd_images import ten_layers, write_image
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


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("ls", "/nowhere"), 7, "mount it"),
        (("gc", "--unused-for", "soon", "/"), 2, "is not a time"),
        (("gc", "/"), 2, "needs --unused-for"),
        (("ls", "/", "image.tar"), 2, "takes no archives"),
        (("push", "/"), 2, "push takes archives"),
        (("push", "/", "image.tar", "--remove"), 2, "belongs to verify and gc"),
        (("verify", "/", "--unused-for", "3d"), 2, "belongs to gc"),
        (("push", "/tmp", "/nowhere.tar"), 7, "cannot be opened"),
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
