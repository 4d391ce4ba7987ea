"""``graphdriver new``: the project works as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import environment, graphdriver
from tests.support.filesystems import loop
from tests.support.long import LONG


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new") / "mydriver"
    done = graphdriver("new", "my-driver", "--output", str(path))
    assert done.returncode == 0, done.stderr.decode()
    return path


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment(path=str(project)),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.root
def test_its_own_tests_pass(project: Path, tmp_path: Path) -> None:
    # The kit looks whether disk space is free again: nobody else may write to the filesystem.
    with loop("ext4", tmp_path, 4 << 30) as alone:
        options = ["-q", "-p", "no:cacheprovider", "-W", "error", f"--basetemp={alone}/tests"]
        if not LONG:  # it copies each layer
            options += ["-k", "not gigabyte and not thousand and not hundred"]
        done = run(project, "-m", "pytest", *options)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.root
@pytest.mark.long
def test_it_passes_the_kit_as_a_process(project: Path) -> None:
    serve = f"{sys.executable} -m graphdriver serve my_driver:MyDriver --socket {{socket}}"
    done = run(project, "-m", "graphdriver", "conform", "--exec", serve)
    assert done.returncode == 0, done.stdout


def test_its_package_can_be_installed_and_is_found_by_its_name(
    project: Path, tmp_path: Path
) -> None:
    # Without its dependencies, which are those of this environment.
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check")
    done = run(project, *pip, "--target", str(tmp_path / "site"), ".")
    assert done.returncode == 0, done.stderr
    listed = graphdriver("drivers", path=str(tmp_path / "site")).stdout.decode()
    assert "my-driver" in listed


def test_no_name_of_the_templates_is_left(project: Path) -> None:
    for directory, _, files in os.walk(project):
        for file in files:
            text = Path(directory, file).read_text()
            assert not {"$name", "$module", "$cls", "$version"} & set(text.split()), file


@pytest.mark.parametrize(
    ("name", "code"), [("My", 2), ("", 2), ("a/b", 2), ("-a", 2), ("vfs", 7), ("json", 7)]
)
def test_a_name_that_a_driver_cannot_have_is_refused(tmp_path: Path, name: str, code: int) -> None:
    done = graphdriver("new", "--output", str(tmp_path / "x"), "--", name)
    assert done.returncode == code, done.stderr
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = graphdriver("new", "other", "--output", str(tmp_path))
    assert done.returncode == 7
    assert os.listdir(tmp_path) == ["mine"]
