"""A plugin in another language, written from the protocol, passes all that is required."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin.subject import ExecSubject
from graphdriver.conformance.pytest_plugin import Check

PLUGIN = Path(__file__).parents[2] / "examples" / "node" / "plugin.mjs"

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def conformance_subject() -> Iterator[ExecSubject]:
    command = shlex.join(["node", str(PLUGIN), "{socket}"])
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder,
        ExecSubject(command, Path(folder)) as subject,
    ):
        yield subject


# It refuses ID maps, as it may: there is nothing to see of those.
@pytest.mark.conformance(offers=ExecSubject.offers, only="!id-maps,!inits/id-maps*")
def test_the_plugin_in_node_conforms(
    conformance_case: Check, conformance_subject: ExecSubject
) -> None:
    conformance_case(conformance_subject)
