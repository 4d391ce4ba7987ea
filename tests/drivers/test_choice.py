from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.driver import ProtoDriver
from graphdriver.drivers import choice
from graphdriver.drivers.loading import available, load
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.serving.home import Home

_MODULE = """
from graphdriver.abilities import (Suitability)
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import UnsupportedError

class Best(VfsDriver):
    @classmethod
    def probe(cls, home):
        return Suitability(99, f"loves {home}")

class Never(VfsDriver):
    @classmethod
    def probe(cls, home):
        raise UnsupportedError("needs a filesystem that is not here")

class Broken(VfsDriver):
    @classmethod
    def probe(cls, home):
        raise PermissionError(1, "Operation not permitted")

class Silent(VfsDriver):
    probe = None

class Stranger:
    pass
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package of drivers: really, as far as the import system can tell."""
    packages = tmp_path / "packages"
    info = packages / "others_drivers-1.dist-info"
    info.mkdir(parents=True)
    (packages / "others_drivers.py").write_text(_MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others-drivers\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(packages))

    def install(**points: str) -> None:
        lines = [f"{name} = {where}" for name, where in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[graphdriver.drivers]", *lines, ""]))
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("others_drivers", None)


def test_our_own_driver_is_found_by_name() -> None:
    assert load("vfs") is VfsDriver
    assert available()["vfs"] is VfsDriver


def test_another_packages_driver_is_found_by_name(install: Install) -> None:
    install(best="others_drivers:Best")
    assert load("best").__name__ == "Best"
    assert issubclass(load("best"), ProtoDriver)
    assert {"best", "vfs"} <= set(available())


def test_a_driver_is_found_by_module_and_class() -> None:
    assert load("graphdriver.drivers.vfs.driver:VfsDriver") is VfsDriver


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedError, match=r"driver 'zfs' does not exist; use one of .*vfs"):
        load("zfs")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("no.such.module:Driver", "cannot be imported: No module named 'no'"),
        ("graphdriver.drivers.vfs.driver:Missing", "cannot be imported: .*Missing"),
        ("others_drivers:Stranger", "is not a driver"),
        ("os:path", "is not a driver"),
    ],
)
def test_what_is_no_driver_is_refused(install: Install, spec: str, text: str) -> None:
    install()
    with pytest.raises(UnsupportedError, match=text):
        load(spec)


def test_a_driver_that_cannot_be_imported_hides_no_other(install: Install) -> None:
    install(bad="no_such_module:Driver")
    found = available()
    assert isinstance(found["bad"], GraphDriverError)
    assert found["vfs"] is VfsDriver


def test_the_best_driver_is_chosen_and_says_why(install: Install, tmp_path: Path) -> None:
    install(best="others_drivers:Best", never="others_drivers:Never")
    found = choice.choose(str(tmp_path))
    assert (found.name, found.rank, found.reason) == ("best", 99, f"loves {tmp_path}")


def test_a_survey_tells_of_every_driver(install: Install, tmp_path: Path) -> None:
    install(
        best="others_drivers:Best",
        never="others_drivers:Never",
        broken="others_drivers:Broken",
        bad="no_such_module:Driver",
        silent="others_drivers:Silent",
    )
    found = {one.name: one for one in choice.survey(str(tmp_path))}
    names = [name for name in found if name in ("best", "vfs", "silent", "bad", "broken", "never")]
    assert names == ["best", "vfs", "silent", "bad", "broken", "never"]
    assert found["silent"].cls is not None
    for name, reason in (
        ("never", "not here"),
        ("broken", "not permitted"),
        ("bad", "cannot be imported"),
    ):
        assert found[name].cls is None
        assert reason in found[name].reason


def test_a_place_that_is_not_there_is_judged_by_the_directory_above(
    install: Install, tmp_path: Path
) -> None:
    install(best="others_drivers:Best")
    assert choice.choose(str(tmp_path / "not" / "yet")).reason == f"loves {tmp_path}"
    assert list(tmp_path.iterdir()) == [tmp_path / "packages"]


def test_where_nothing_works_each_drivers_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, install: Install, tmp_path: Path
) -> None:
    # Our own drivers work anywhere: an installation without them has a path of its own.
    install(never="others_drivers:Never", silent="others_drivers:Silent")
    load("graphdriver.drivers.vfs.driver:VfsDriver")
    __import__("others_drivers")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    importlib.invalidate_caches()
    with pytest.raises(UnsupportedError, match=r"no driver works on .*silent: .*never: .*not here"):
        choice.choose(str(tmp_path))


@pytest.mark.parametrize("claimed", ["vfs", "overlay2"])
def test_a_home_with_layers_is_not_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: str
) -> None:
    """On a full filesystem no probe would find a driver, and another one would be refused."""
    home = Home(str(tmp_path / "home"))
    home.claim("containerd", claimed, 1)
    home.close()
    monkeypatch.setattr(choice, "survey", lambda _home: [])
    assert choice.choose(home.path).name == claimed
    too_deep = '{"driver": ' + "[" * 100_000
    for damaged in ("", "[]", "{}", '{"driver": 1}', '{"driver": "of nobody"}', too_deep):
        (tmp_path / "home/.graphdriver/home.json").write_text(damaged)
        with pytest.raises(UnsupportedError, match="no driver works"):
            choice.choose(home.path)
