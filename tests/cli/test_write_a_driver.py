"""The author's guide: its methods, put into a new project, make a driver that works."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from tests.support.command import Serving, environment, graphdriver, install
from tests.support.documented import blocks

pytestmark = pytest.mark.root

PAGE = "docs/how-to/write-a-driver.md"

IMPORTS = """
import contextlib
import logging
import os
import shutil

from graphdriver import GraphDriverError, Needs, Suitability
"""


@pytest.fixture(scope="module")
def project() -> Iterator[str]:
    """Where the driver is, as an installed one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = Path(directory) / "mydriver"
        done = graphdriver("new", "mydriver", "--output", str(path))
        assert done.returncode == 0, done.stderr.decode()
        shown = [one.text for one in blocks() if (one.page, one.language) == (PAGE, "python")]
        module = path / "mydriver.py"
        written = module.read_text().replace("import os\n", IMPORTS, 1)
        module.write_text(written + textwrap.indent("\n" + "\n".join(shown), "    "))
        install(path, "mydriver", "mydriver:Mydriver")
        yield str(path)


def test_it_passes_the_cases_of_what_the_guide_writes(project: str) -> None:
    serve = f"{sys.executable} -m graphdriver serve mydriver --socket {{socket}}"
    only = "layers,reference-counts,restart,leftovers/nothing*"
    done = subprocess.run(
        [sys.executable, "-m", "graphdriver", "conform", "--exec", serve, "--only", only],
        env=environment(path=project, TMPDIR=os.path.dirname(project)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "failed (optional)" not in done.stdout


def test_it_is_listed_with_the_reason_of_its_probe(project: str) -> None:
    said = graphdriver("drivers", path=project).stdout.decode()
    assert "each layer is a copy, made by cp" in said


def test_a_wrong_option_is_refused_before_it_is_served(project: str) -> None:
    done = graphdriver("serve", "mydriver", "--opt", "copies=no", path=project)
    assert done.returncode == 7
    assert b"it takes copies=shared or copies=full" in done.stderr


def test_calls_are_logged_with_their_layer_and_commands_look_into_its_home(
    project: str,
) -> None:
    folder = Path(project).parent  # the path of a socket must be short
    serving = Serving(
        folder, "mydriver", "--opt", "copies=full", "--log-format", "json", path=project
    ).ready()
    try:
        with Client(serving.socket, timeout=60) as client:
            client.init(f"{project}-home")
            client.create("base")
            metadata = client.get_metadata("base")
            (line,) = [one for one in serving.lines if str(one["message"]).startswith("asked")]
            assert (line["call"], line["layer"]) == ("GetMetadata", "base")
            assert metadata["Directory"] == f"{project}-home/base/tree"
            said = graphdriver("layers", "--home", f"{project}-home", path=project).stdout.decode()
            assert "base" in said
            client.cleanup()
    finally:
        serving.end()
