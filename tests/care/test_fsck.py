"""What fsck finds of the framework's own in a home, and how it repairs that, whatever the driver is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphdriver.care.findings import Severity
from graphdriver.care.fsck import CheckedHome, check, repair
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import (
    GraphDriverError,
    InUseError,
    MalformedRequestError,
    UnsupportedError,
)
from tests.care.fsck_homes import serving
from tests.support.tarbox import TarBox

pytestmark = pytest.mark.root


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    with serving("vfs", path) as served:
        served.driver.create("base", "", "", {})
        served.driver.create("layer", "base", "", {})
    return path


def codes(home: CheckedHome) -> list[tuple[str, str]]:
    return [(one.damage.code, one.damage.layer) for one in home.found if not one.is_repaired]


def repaired(path: Path) -> CheckedHome:
    """Repair a home; check that everything that can be repaired was, and that it stays so."""
    home = check(str(path))
    for one in repair(home):
        assert one.is_repaired, one.failure
    assert codes(check(str(path))) == codes(home)
    return home


def content(path: Path) -> list[str]:
    return sorted(str(one) for one in path.rglob("*"))


def test_a_sound_home_has_no_findings_and_stays_as_it_is(home: Path) -> None:
    before = content(home)
    found = check(str(home))
    assert (found.found, found.worst, found.layers, found.served_by) == ([], None, 2, [])
    assert content(home) == before


def test_a_layer_whose_transfer_broke_off_is_removed(home: Path) -> None:
    (home / ".graphdriver/applying/layer").touch()
    found = check(str(home))
    assert (codes(found), found.worst) == ([("unfinished-layer", "layer")], Severity.WARNING)
    assert (home / "layer").exists()
    assert repaired(home).worst is None
    assert not (home / "layer").exists()
    assert (home / "base").exists()


def test_a_layer_that_was_filled_after_the_check_is_not_removed(home: Path) -> None:
    """With --deep hours may be between the check and the repair, and a plugin may serve the home."""
    marks = home / ".graphdriver/applying"
    for id in ("layer", "gone"):
        (marks / id).touch()
    found = check(str(home))
    for id in ("layer", "gone"):
        (marks / id).unlink()
    assert ["changed" in one.failure for one in repair(found)] == [True, True]
    assert (home / "layer").exists()


def test_a_mark_without_a_layer_is_removed(home: Path) -> None:
    (home / ".graphdriver/applying/gone").touch()
    assert codes(check(str(home))) == [("stale-mark", "gone")]
    assert repaired(home).worst is None


def test_creates_and_removals_that_a_kill_ended_are_swept(home: Path) -> None:
    (home / ".staging/half/root").mkdir(parents=True)
    (home / ".trash/0123/root").mkdir(parents=True)
    (home / "layer").chmod(0o1000)
    assert codes(check(str(home))) == [
        ("unfinished-removal", ""),
        ("unfinished-create", "half"),
        ("unfinished-removal", "layer"),
    ]
    assert repaired(home).worst is None
    assert os.listdir(home / ".staging") == os.listdir(home / ".trash") == []
    assert not (home / "layer").exists()


@pytest.mark.parametrize("text", [None, "", "{}", '{"engine": 1}'])
def test_a_lost_record_of_the_home_is_told(home: Path, text: str | None) -> None:
    record = home / ".graphdriver/home.json"
    record.unlink()
    if text is not None:
        record.write_text(text)
    found = check(str(home))
    assert (codes(found), found.worst) == ([("lost-home-record", "")], Severity.DAMAGE)
    assert str(record) in found.found[0].damage.text
    assert "restore the record from a copy" in found.ways_out[0]


def test_an_interrupted_repair_is_continued(home: Path) -> None:
    for id in ("one", "two", "three"):
        (home / ".graphdriver/applying" / id).touch()
    (home / ".graphdriver/applying/layer").touch()
    repairing = repair(check(str(home)))
    next(repairing)
    repairing.close()  # type: ignore[attr-defined]
    assert len(check(str(home)).found) == 3
    assert repaired(home).worst is None


def test_a_served_home_is_checked_and_not_repaired(home: Path) -> None:
    (home / ".graphdriver/applying/layer").touch()
    pid = os.fork()
    if not pid:
        with serving("vfs", home):
            (home / ".staging/new").mkdir()
            os.kill(os.getpid(), 19)
        os._exit(0)
    try:
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        found = check(str(home))
        assert (found.found, found.unfinished) == ([], 1)
        assert [str(pid) in one for one in found.served_by] == [True]
        with pytest.raises(InUseError, match=f"in use by process {pid}; stop it first"):
            list(repair(found))
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_drivers_home_that_is_not_installed_is_checked_as_far_as_possible(tmp_path: Path) -> None:
    class Elsewhere(TarBox):
        driver_name = "elsewhere"

    from graphdriver.serving.served_home import ServedHome

    served = ServedHome(Elsewhere(), "docker")
    served.claim(str(tmp_path / "home"))
    served.close()
    found = check(str(tmp_path / "home"))
    assert (codes(found), found.layers) == ([("unchecked", "")], None)
    assert found.worst is Severity.WARNING
    assert "'elsewhere' does not exist" in found.found[0].damage.text


def test_a_drivers_faulty_checks_are_an_error_and_never_a_sound_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_home(_: str) -> object:
        raise KeyError("a fault of the driver")

    monkeypatch.setattr(VfsDriver, "check_home", check_home)
    with pytest.raises(GraphDriverError, match=r"cannot be checked: KeyError: .*a fault"):
        check(str(home))


def test_a_driver_that_does_not_work_here_removes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*_: object) -> None:
        raise UnsupportedError("not on this machine")

    (home / ".graphdriver/applying/layer").touch()
    (home / ".graphdriver/applying/gone").touch()
    monkeypatch.setattr(VfsDriver, "init", init)
    found = check(str(home))
    assert [one.failure for one in repair(found)] == ["", "not on this machine"]
    assert codes(found) == [("unfinished-layer", "layer")]


def test_what_is_no_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedRequestError, match="is not a home"):
        check(str(tmp_path))
