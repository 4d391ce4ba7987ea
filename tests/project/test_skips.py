"""In CI a skipped test is a failure, unless it is listed with its reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import allowed_skips

CONFTEST = Path(__file__).parents[1] / "conftest.py"


SIDE_BY_SIDE = ("-n", "2")

IN_BOTH_WAYS = pytest.mark.parametrize("options", [(), SIDE_BY_SIDE], ids=["alone", "side by side"])
"""Tests run in one process, or in several, which report to the one that started them."""


def run(
    folder: Path, allowed: str, options: tuple[str, ...] = (), *, ci: bool
) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "allowed_skips.txt").write_text(allowed)
    (folder / "test_it.py").write_text(
        "import pytest\ndef test_good(): pass\ndef test_left(): pytest.skip('no reason')\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "CI": str(ci).lower()},
    )


@IN_BOTH_WAYS
def test_an_unlisted_skip_of_a_test_or_a_whole_file_fails_in_ci_and_is_named(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "test_all.py").write_text(
        "import pytest\npytest.skip('no reason', allow_module_level=True)\n"
    )
    result = run(tmp_path, "", options, ci=True)
    assert result.returncode == 1
    assert "not in allowed_skips.txt: test_it.py::test_left" in result.stdout
    assert "not in allowed_skips.txt: test_all.py" in result.stdout


def test_a_listed_skip_passes_in_ci(tmp_path: Path) -> None:
    assert run(tmp_path, "test_it.py::test_left  # shown here\n", ci=True).returncode == 0


def test_a_skip_passes_outside_ci(tmp_path: Path) -> None:
    assert run(tmp_path, "", ci=False).returncode == 0


def test_a_list_with_a_line_without_a_reason_fails_in_ci(tmp_path: Path) -> None:
    result = run(tmp_path, "test_it.py::test_left\n", ci=True)
    assert result.returncode != 0
    assert "gives no reason for 'test_it.py::test_left'" in result.stdout + result.stderr


def test_a_line_without_a_reason_is_an_error() -> None:
    with pytest.raises(ValueError, match="no reason"):
        allowed_skips("test_it.py::test_left\n")


def test_output_that_is_no_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "test_odd.py").write_text(
        r"def test_good(caplog): import logging; logging.error('\udcff')"
        "\n"
        r"def test_bad(): assert '\udcff' == ''"
    )
    result = run(tmp_path, "test_it.py::*  # shown here\n", SIDE_BY_SIDE, ci=True)
    assert "1 failed, 2 passed, 1 skipped" in result.stdout
