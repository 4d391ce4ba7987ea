"""The plugin that the README shows is right in all that it says of itself."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin.subject import ExecSubject
from graphdriver.conformance.pytest_plugin import Check

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_folders.py"

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def conformance_subject() -> Iterator[ExecSubject]:
    command = shlex.join([sys.executable, str(EXAMPLE), "{socket}"])
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder,
        ExecSubject(command, Path(folder)) as subject,
    ):
        yield subject


@pytest.mark.conformance(offers=ExecSubject.offers)
def test_the_readmes_plugin_conforms(
    conformance_case: Check, conformance_subject: ExecSubject
) -> None:
    conformance_case(conformance_subject)
