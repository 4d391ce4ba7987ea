"""overlay2 as root of a user namespace alone: marks in ``user.`` attributes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.run import chosen
from graphdriver.conformance.plugin.cases import GROUPS
from graphdriver.linux.namespaces import in_user_namespace
from tests.drivers.conftest import TakeUp

CASES = (
    "layers,hostile-tars,chains/*-layers,!chains/reading*,written/on*,written/*again*,"
    "round-trips/diff-against-any*,round-trips/empty*,round-trips/diff-can*,dialects/gnu*,"
    "dialects/pax*,dialects/sparse*,changes/times*,sizes/size-of-an-applied-tar,sizes/size-of-c*,"
    "sizes/hard*,sizes/symbolic*,whiteouts/deletes*,whiteouts/of*,whiteouts/keeps*,"
    "whiteouts/opaque*,whiteouts/aufs*,links/names*,links/one*,links/made*,links/absolute*,"
    "links/targets*,links/replacing*,attributes/directories-keep*,attributes/times*,"
    "special-files/sockets*,special-files/names*,special-files/deep*"
)
"""Cases of the kit that need no device, no ``trusted.`` attribute and no other owner."""

SUITE = [case.id for case in chosen(GROUPS, CASES) if Need.SOCKET not in case.needs]

INSIDE = (
    *(f"test_conformance.py::test_a_driver_conforms[{id}-overlay2-disk]" for id in SUITE),
    "test_overlay_diffs.py::test_its_answers_are_the_naive_ones",
    "test_user_namespace.py::test_marks_are_users_in_a_user_namespace_alone",
)


def test_marks_are_users_in_a_user_namespace_alone(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    inside = in_user_namespace()
    assert dict(driver.status())["userxattr"] == str(inside).lower()
    driver.create("a", "", "", {})
    Path(driver.get("a", ""), "folder").mkdir()
    driver.create("b", "a", "", {})
    root = Path(driver.get("b", ""))
    (root / "folder").rmdir()
    (root / "folder").mkdir()
    prefix = "user" if inside else "trusted"
    assert os.getxattr(home / "b/diff/folder", f"{prefix}.overlay.opaque") == b"y"


@pytest.mark.skipif(in_user_namespace(), reason="it begins one")
def test_the_suite_passes_inside_of_one() -> None:
    directory = Path(__file__).parent
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", "pytest"]
    done = subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", *(str(directory / one) for one in INSIDE)],
        capture_output=True,
        text=True,
        cwd=directory.parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^{len(INSIDE)} passed", done.stdout, re.MULTILINE), done.stdout
