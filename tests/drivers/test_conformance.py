"""The conformance kit is the suite of our own drivers: by themselves, and through the whole plugin."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.plugin.cases import GROUPS, leftovers
from graphdriver.conformance.plugin.subject import ExecSubject, LocalSubject
from graphdriver.conformance.pytest_plugin import Check
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver
from tests.drivers.every import retire
from tests.support.long import times

pytestmark = pytest.mark.root

DRIVERS = {
    "vfs": (VfsDriver, ["disk", "tmpfs", "xfs", "btrfs"]),
    "overlay2": (Overlay2Driver, ["disk", "tmpfs", "xfs", "btrfs"]),
    "erofs": (ErofsDriver, ["disk", "tmpfs"]),
    "btrfs": (BtrfsDriver, ["btrfs"]),
    "fuse-overlayfs": (FuseOverlayfsDriver, ["disk", "tmpfs"]),
}

CANNOT = (
    "attributes/directories-keep-their-mode",
    "special-files/devices-below-can-be-deleted",
    "special-files/longest-names-below-can-be-deleted",
)
"""What the program fuse-overlayfs of Debian 12 cannot do, and so what its driver cannot."""

BY_THE_FILESYSTEM = (
    "written,round-trips,changes,sizes,whiteouts,links,attributes,special-files,dialects/sparse*"
)
"""What depends on the driver and the filesystem that its home is on."""

BY_THE_DRIVER = f"{BY_THE_FILESYSTEM},layers,errors,chains,dialects,id-maps,hostile-tars"
"""What depends on the driver; each has these on the first of its filesystems."""

BETWEEN = "inits,reference-counts,id-maps,concurrency,restart,leftovers"
"""What depends on driver and plugin. What comes and goes on the wire is the same on all drivers: the
default plugin has all cases, and alone the layers of a gigabyte, for which the loops are too small."""


@pytest.fixture(autouse=True)
def fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat calls so often that a file left open by each of them shows."""
    monkeypatch.setattr(leftovers, "_ROUNDS", times(gate=60, long=200))


@pytest.fixture(scope="module")
def above(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory on the filesystem that the parameter names."""
    match request.param:
        case "disk":
            return tmp_path_factory.mktemp("disk")
        case "tmpfs":
            return Path("/dev/shm")
        case name:
            loop: Path = request.getfixturevalue(name)
            return loop


@contextmanager
def by_itself(name: str, above: Path) -> Iterator[LocalSubject]:
    with (
        tempfile.TemporaryDirectory(dir=above, prefix="gd-") as directory,
        LocalSubject(DRIVERS[name][0], Path(directory), retire) as subject,
    ):
        yield subject


@pytest.fixture(scope="module")
def local(request: pytest.FixtureRequest, above: Path) -> Iterator[LocalSubject]:
    with by_itself(request.param, above) as subject:
        yield subject


@pytest.fixture(scope="module")
def plugin(request: pytest.FixtureRequest, above: Path) -> Iterator[ExecSubject]:
    command = [sys.executable, "-m", "graphdriver", "serve", request.param, "--socket", "{socket}"]
    with (
        tempfile.TemporaryDirectory(dir=above, prefix="gd-") as directory,
        ExecSubject(shlex.join(command), Path(directory)) as subject,
    ):
        yield subject


def on_each(fixture: str, *names: str, which: slice = slice(None)) -> pytest.MarkDecorator:
    """Give a fixture for these drivers, on each filesystem that they are tested on, or on some."""
    places = [(name, place) for name in names for place in DRIVERS[name][1][which]]
    return pytest.mark.parametrize((fixture, "above"), places, indirect=True, scope="module")


def on_one(*names: str) -> pytest.MarkDecorator:
    """Give the whole plugin of these drivers, on the filesystem that is quickest."""
    places = [(name, "btrfs" if name == "btrfs" else "tmpfs") for name in names]
    return pytest.mark.parametrize(("plugin", "above"), places, indirect=True, scope="module")


@on_each("local", "vfs", "overlay2", "erofs", "btrfs", which=slice(1))
@pytest.mark.conformance(only=BY_THE_DRIVER, offers=LocalSubject.offers, strict=True)
def test_a_driver_conforms(conformance_case: Check, local: LocalSubject) -> None:
    conformance_case(local)


@on_each("local", "vfs", "overlay2", "erofs", which=slice(1, None))
@pytest.mark.conformance(only=BY_THE_FILESYSTEM, offers=LocalSubject.offers, strict=True)
def test_it_does_on_other_filesystems(conformance_case: Check, local: LocalSubject) -> None:
    conformance_case(local)


def but_those(cases: str) -> str:
    return ",".join([cases, *(f"!{id}" for id in CANNOT)])


@on_each("local", "fuse-overlayfs", which=slice(1))
@pytest.mark.conformance(only=but_those(BY_THE_DRIVER), offers=LocalSubject.offers, strict=True)
def test_fuse_overlayfs_conforms(conformance_case: Check, local: LocalSubject) -> None:
    conformance_case(local)


@on_each("local", "fuse-overlayfs", which=slice(1, None))
@pytest.mark.conformance(only=but_those(BY_THE_FILESYSTEM), offers=LocalSubject.offers, strict=True)
def test_fuse_overlayfs_does_on_other_filesystems(
    conformance_case: Check, local: LocalSubject
) -> None:
    conformance_case(local)


@pytest.mark.parametrize("id", CANNOT)
def test_what_fuse_overlayfs_cannot_is_optional(id: str) -> None:
    (case,) = chosen(GROUPS, id)
    with by_itself("fuse-overlayfs", Path("/dev/shm")) as subject:
        assert run_case(case, subject).outcome is Outcome.FAILED
    assert not case.required


@on_one("overlay2")
@pytest.mark.conformance(offers=ExecSubject.offers, strict=True)
def test_the_default_plugin_conforms(conformance_case: Check, plugin: ExecSubject) -> None:
    conformance_case(plugin)


@on_one("vfs", "erofs", "btrfs", "fuse-overlayfs")
@pytest.mark.conformance(only=BETWEEN, offers=ExecSubject.offers, strict=True)
def test_a_plugin_conforms(conformance_case: Check, plugin: ExecSubject) -> None:
    conformance_case(plugin)
