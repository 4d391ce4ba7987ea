"""Each way to damage a home, for each driver that has it: what fsck finds, repairs, leaves usable."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from graphdriver.care.findings import Severity
from graphdriver.care.fsck import check, repair
from graphdriver.conformance.plugin import tars
from graphdriver.driver import Driver, mounted
from graphdriver.drivers.loading import make
from graphdriver.drivers.overlay.reference_counts import COUNTS
from graphdriver.files.runtime_directory import file_name
from graphdriver.serving.served_home import ServedHome
from tests.care.damages import Way, cases
from tests.care.fsck_homes import driving

pytestmark = pytest.mark.root


@pytest.fixture
def home(name: str, place: Path) -> Path:
    """A home with three layers on each other, and one beside them."""
    path = place / "home"
    with driving(name, path) as driver:
        for id, parent in (("base", ""), ("mid", "base"), ("top", "mid"), ("other", "base")):
            driver.create(id, parent, "", {})
            driver.apply_diff(id, parent, io.BytesIO(tars.tar(tars.file(id.encode(), id.encode()))))
    return path


@pytest.mark.parametrize("name", ["overlay2"])
def test_wrong_reference_counts_are_found_and_repaired(home: Path) -> None:
    served = ServedHome(make("overlay2"), "docker")
    served.claim(str(home))
    served.init_driver()
    served.driver.get("top", "")
    served.close()  # as a plugin that was stopped: the mount stays
    assert check(str(home)).found == []
    counts = Path(COUNTS, file_name(str(home)))
    shutil.copyfile(counts / "top", counts / "mid")
    (counts / "top").write_text("garbage")
    found = check(str(home))
    assert [(it.damage.code, it.damage.layer, it.damage.repair) for it in found.found] == [
        ("wrong-count", "mid", "remove the count"),
        ("wrong-count", "top", "count one Get"),
    ]
    assert all(it.is_repaired for it in repair(found))
    assert (counts / "top").read_text().split()[1] == "1"
    assert check(str(home)).found == []
    with driving("overlay2", home) as driver:
        driver.put("top")


SHOWN = {"base": {"base"}, "mid": {"base", "mid"}, "top": {"base", "mid", "top"}}


def check_that_it_works(driver: Driver, *layers: str) -> None:
    for id in layers:
        with mounted(driver, id) as root:
            assert {one.name for one in Path(root).iterdir()} >= SHOWN[id]


@pytest.mark.parametrize(("name", "one"), cases())
def test_damage_is_found_and_repaired_or_told(name: str, one: Way, home: Path) -> None:
    one.damage(home)
    found = check(str(home))
    assert (one.code, one.layer) in {(it.damage.code, it.damage.layer) for it in found.found}
    before = [(it.damage.code, it.damage.layer) for it in found.found]
    for each in repair(found):
        assert each.is_repaired, each.failure
    left = check(str(home))
    assert [it.damage.repair for it in left.found] == [""] * len(left.found)
    assert {(it.damage.code, it.damage.layer) for it in left.found} <= set(before)
    with driving(name, home) as driver:
        if one.repairs:
            assert left.worst is None
            check_that_it_works(driver, "base", "mid", "top")
        else:
            assert (one.code, one.layer) in {(it.damage.code, it.damage.layer) for it in left.found}
            assert (left.worst is Severity.DAMAGE) is left.found[0].damage.loses
            check_that_it_works(driver, "base")
            for id in ("top", "mid", "other"):
                driver.remove(id)
            driver.create("top", "base", "", {})
            check_that_it_works(driver, "base")
    if one.code != "foreign-link":
        rest = check(str(home))  # the link of a layer that is gone, if one on it needed it till now
        assert {it.damage.code for it in rest.found} <= {"dangling-link"}
        assert all(it.is_repaired for it in repair(rest))
        assert check(str(home)).worst is None
