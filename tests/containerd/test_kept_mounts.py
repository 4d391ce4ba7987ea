"""A driver keeps mounted what its named mounts need, as long as a snapshot may be mounted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from graphdriver.abilities import Mount
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError, LayerNotFoundError
from tests.support.waiting import wait_until


class Keeping(VfsDriver):
    """A driver that names mounts, and notes for which layers it keeps something mounted."""

    driver_name = "vfs"
    kept: ClassVar[dict[str, str]] = {}
    lost: ClassVar[set[str]] = set()

    def mounts(self, id: str, *, read_only: bool) -> Sequence[Mount]:
        assert id in self.kept.values(), "the mounts are named before what they need is kept"
        return (Mount("bind", f"/{id}", ("ro" if read_only else "rw", "rbind")),)

    def keep_mounts(self, id: str, user: str) -> None:
        if id in self.lost:
            raise GraphDriverError("the layer is damaged")
        self.kept[user] = id

    def release_mounts(self, user: str) -> None:
        self.kept.pop(user, None)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    Keeping.kept.clear()
    Keeping.lost.clear()


@contextlib.contextmanager
def keeping(folder: Path) -> Iterator[Snapshots]:
    """Serve a root as a new process does: the driver knows no users."""
    Keeping.kept.clear()
    with contextlib.closing(Snapshots(Keeping(), str(folder / "root"))) as snapshots:
        yield snapshots
        wait_until(lambda: not snapshots._metadata.uncounted())


def test_each_active_snapshot_and_view_is_a_user_until_it_is_committed_or_removed(
    folder: Path,
) -> None:
    with keeping(folder) as snapshots:
        snapshots.prepare("a", "", {})
        assert Keeping.kept == {"1": "1"}
        snapshots.commit("A", "a", {})
        assert not Keeping.kept
        for key in ("one", "two"):
            snapshots.view(key, "A", {})
        snapshots.prepare("b", "A", {})
        assert Keeping.kept == {"2": "1", "3": "1", "4": "4"}
        for key in ("one", "b"):
            snapshots.remove(key)
        assert Keeping.kept == {"3": "1"}


def test_a_driver_that_was_started_again_is_told_its_users(folder: Path) -> None:
    with keeping(folder) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("A", "a", {})
        snapshots.view("one", "A", {})
        snapshots.prepare("b", "A", {})
    with keeping(folder):
        assert Keeping.kept == {"2": "1", "3": "3"}


def test_a_damaged_layer_is_named_and_the_other_snapshots_go_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with keeping(folder) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.prepare("b", "", {})
    Keeping.lost.add("1")
    with keeping(folder) as snapshots:
        assert Keeping.kept == {"2": "2"}
        assert "the snapshot 'a' cannot be mounted: the layer is damaged" in caplog.text
        with pytest.raises(GraphDriverError, match="the layer is damaged"):
            snapshots.mounts("a")
        assert snapshots.mounts("b")
        snapshots.remove("a")


def test_a_prepare_that_fails_leaves_no_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LayerNotFoundError("no mounts")

    with keeping(folder) as snapshots:
        monkeypatch.setattr(Keeping, "mounts", fail)
        with pytest.raises(LayerNotFoundError):
            snapshots.prepare("a", "", {})
        assert not Keeping.kept


def test_a_removal_goes_on_if_the_driver_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("busy")

    with keeping(folder) as snapshots:
        snapshots.prepare("a", "", {})
        monkeypatch.setattr(Keeping, "release_mounts", fail)
        snapshots.remove("a")
        assert not snapshots.find(())
        assert "what the mounts of snapshot 1 need cannot be released" in caplog.text


SEEN = """\
import logging, sys
from graphdriver.containerd.visibility import warn_unless_visible
logging.basicConfig(format="%(message)s")
warn_unless_visible(sys.argv[1])
"""


@pytest.mark.root
@pytest.mark.parametrize(("propagation", "is_seen"), [("shared", True), ("private", False)])
def test_mounts_that_containerd_would_not_see_are_a_warning(
    tmp_path: Path, propagation: str, is_seen: bool
) -> None:
    command = [sys.executable, "-c", SEEN, str(tmp_path)]
    unshared = ["unshare", "--mount", "--propagation", propagation, *command]
    done = subprocess.run(unshared, check=True, capture_output=True, text=True)
    warned = "containerd may not see the mounts in" in done.stderr
    assert warned is not is_seen, done.stderr
