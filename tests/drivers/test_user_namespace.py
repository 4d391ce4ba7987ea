"""overlay2 as root of a user namespace alone: marks in ``user.`` attributes, on tmpfs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.linux.namespaces import in_user_namespace
from tests.drivers.conftest import TakeUp

SUITE = (
    "test_a_layer_is_there_from_create_to_remove",
    "test_a_new_layer_on_nothing_is_empty",
    "test_a_removed_layers_id_can_be_taken_again",
    "test_a_layer_that_was_got_can_be_removed",
    "test_a_parent_must_be_there",
    "test_gets_nest_and_show_the_same",
    "test_twenty_layers_stand_on_each_other",
    "test_two_hundred_layers_stand_on_each_other",
    "test_a_damaged_tar_is_refused",
    "test_a_change_that_size_and_time_do_not_show_is_found",
    "test_diff_size_counts_each_changed_file_once_and_links_by_length",
)
"""Tests of the suite that need no device, no ``trusted.`` attribute and no other owner."""

INSIDE = (
    *(f"test_overlay2.py::TestOverlay2::{name}[tmpfs]" for name in SUITE),
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
    folder = Path(__file__).parent
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", "pytest"]
    done = subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", *(str(folder / one) for one in INSIDE)],
        capture_output=True,
        text=True,
        cwd=folder.parents[1],
    )
    assert done.returncode == 0, done.stdout
    assert re.search(rf"^{len(INSIDE)} passed", done.stdout, re.MULTILINE), done.stdout
