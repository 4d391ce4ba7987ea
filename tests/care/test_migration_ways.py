"""Which way a migration takes, what it refuses, and what an interrupted one does not do again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.care.migration.migration import migrate
from graphdriver.care.migration.new_home import TRANSFERRED
from graphdriver.care.migration.plan import LayerKind, PlannedLayer, Side, Way
from graphdriver.care.migration.planning import make_plan
from graphdriver.care.migration.ways import transfer_by
from graphdriver.care.migration.workplace import Journal, Stage, Workplace, is_blocked
from graphdriver.errors import UnsupportedError
from graphdriver.layer.overlay.unfollowed import Unfollowed
from graphdriver.linux import xattr
from tests.support.docker_root import DockerRoot
from tests.support.overlays import opened
from tests.support.sides import side

pytestmark = pytest.mark.root


def dockers(root: Path, name: str) -> Side:
    return Side(str(root), name, name, is_built_in=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with two layers in Docker's own overlay2, of which no image knows."""
    home = DockerRoot(tmp_path).path / "overlay2"
    first, second = "FIRST".ljust(26, "A"), "SECOND".ljust(26, "A")
    for id, link, lower in (("first", first, ""), ("second", second, f"l/{first}")):
        (home / id / "diff/directory").mkdir(parents=True)
        (home / id / "link").write_text(link)
        if lower:
            (home / id / "lower").write_text(lower)
    (home / "l").mkdir(0o700)
    for id, link in (("first", first), ("second", second)):
        (home / "l" / link).symlink_to(f"../{id}/diff")
    (tmp_path / "image/py-vfs").rename(tmp_path / "image/overlay2")
    return tmp_path


def mark(root: Path) -> None:
    """Give a directory a mark that only mounts with ``redirect_dir`` follow."""
    with opened(root / "overlay2/second/diff/directory") as (fd,):
        xattr.set(fd, b"trusted.overlay.redirect", b"other")


def test_the_driver_stays_and_nothing_is_copied(root: Path) -> None:
    plan = make_plan(dockers(root, "overlay2"), side(root, "overlay2"), keeps=False)
    assert plan.transfer.way is Way.MOVE
    assert "2 layers have no record, and are transferred as well" in plan.notes
    plan = make_plan(dockers(root, "overlay2"), side(root, "overlay2"), keeps=True)
    assert plan.transfer.way is Way.COPY


def test_between_two_drivers_layers_without_a_record_are_left_behind(root: Path) -> None:
    plan = make_plan(dockers(root, "overlay2"), side(root, "vfs"), keeps=False)
    assert plan.transfer.way is Way.CONVERT
    assert "2 layers have no record, and are left behind" in plan.notes
    migrate(plan)
    assert not [one for one in os.listdir(root / "py-vfs") if one[0] != "."]


@pytest.mark.parametrize("keeps", [False, True])
def test_layers_with_marks_that_are_not_followed_are_written_anew(
    root: Path, *, keeps: bool
) -> None:
    mark(root)
    plan = make_plan(dockers(root, "overlay2"), side(root, "overlay2"), keeps=keeps)
    assert plan.transfer.way is Way.CONVERT
    assert not plan.refused
    assert any(note.startswith("1 layers have overlay marks") for note in plan.notes)


def test_an_interrupted_migration_keeps_its_way(root: Path) -> None:
    """A daemon may have made a layer with such marks meanwhile."""
    source, target = dockers(root, "overlay2"), side(root, "overlay2")
    Workplace(str(root)).write(Journal(source, target, Way.MOVE, keeps=False))
    mark(root)
    plan = make_plan(source, target, keeps=False)
    assert plan.transfer.way is Way.MOVE
    assert [one.layer for one in plan.refused] == ["second"]
    assert "'directory' has the overlay mark 'trusted.overlay.redirect'" in plan.refused[0].text


@pytest.mark.parametrize("way", [Way.MOVE, Way.COPY])
def test_a_way_that_keeps_the_marks_refuses_them(tmp_path: Path, way: Way) -> None:
    marks = Unfollowed(b"etc", "trusted.overlay.redirect", 3)
    layer = PlannedLayer("a", "", LayerKind.BUILD, "", unfollowed=marks)
    transfer = transfer_by(way, dockers(tmp_path, "overlay2"), side(tmp_path, "overlay2"))
    assert [one.text for one in transfer.refused([layer])] == [
        "its directory 'etc' has the overlay mark 'trusted.overlay.redirect', and 2 others have such"
        " marks, which mounts of the new side do not follow"
    ]


@pytest.mark.parametrize("name", ["vfs", "btrfs"])
def test_a_layout_of_dockers_own_is_not_written(root: Path, name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"cannot become layers of Docker's own {name}"):
        make_plan(dockers(root, "overlay2"), dockers(root, name), keeps=False)


def test_incomplete_layers_are_refused_where_they_are_needed(root: Path) -> None:
    os.rename(root / "overlay2", root / "py-overlay2")
    os.rename(root / "image/overlay2", root / "image/py-overlay2")
    marks = root / "py-overlay2/.graphdriver/applying"
    marks.mkdir(parents=True)
    (marks / "second").touch()
    plan = make_plan(side(root, "overlay2"), dockers(root, "overlay2"), keeps=False)
    assert [one.layer for one in plan.refused] == ["second"]
    plan = make_plan(side(root, "overlay2"), side(root, "vfs"), keeps=False)  # it is left behind
    assert not plan.refused


class KilledError(Exception):
    """Stands for a kill."""


@contextlib.contextmanager
def killed_before(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Iterator[None]:
    """Let the journal's entry of a stage fail for the length of a ``with`` block."""
    write = Workplace.write

    def kill(place: Workplace, journal: Journal) -> None:
        if journal.stage is stage:
            raise KilledError
        write(place, journal)

    with monkeypatch.context() as patched:
        patched.setattr(Workplace, "write", kill)
        yield


def test_a_kill_between_the_new_home_and_the_journal(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = dockers(root, "overlay2"), side(root, "overlay2")
    with killed_before(monkeypatch, Stage.ENDING), pytest.raises(KilledError):
        migrate(make_plan(source, target, keeps=False))
    assert os.path.isdir(target.home)
    migrate(make_plan(source, target, keeps=False))
    assert os.path.isdir(target.home)
    assert not os.path.lexists(source.home)


@pytest.mark.parametrize("name", ["overlay2", "vfs"])
def test_no_daemon_starts_on_a_side_that_was_transferred(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What it changed there would be lost: the next run does not transfer it again."""
    source, target = dockers(root, "overlay2"), side(root, name)
    with killed_before(monkeypatch, Stage.SWITCHING), pytest.raises(KilledError):
        migrate(make_plan(source, target, keeps=False))
    assert is_blocked(source.home)
    # Layers that are whole are still known as such.
    assert os.path.exists(os.path.join(Workplace(str(root)).new, TRANSFERRED)) == (name == "vfs")
    migrate(make_plan(source, target, keeps=False))
    assert os.path.isdir(target.home)
    assert not os.path.exists(os.path.join(target.home, TRANSFERRED))
