"""The documentation site, for the tests that look at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.documented import ROOT


def build(directory: Path) -> None:
    """Build the site as ``make docs`` does; a warning is an error."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(directory)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
