"""The plugins of `examples` pass: the Python one all cases, the Node.js one all that are required."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphdriver.conformance.plugin.subject import ExecSubject
from graphdriver.conformance.pytest_plugin import Check
from tests.support.long import LONG

EXAMPLES = Path(__file__).parents[3] / "examples"

pytestmark = pytest.mark.root

LARGE = (
    *("streams/file-of-a-gigabyte", "streams/twenty-thousand-files", "chains/two-hundred-layers"),
    "chains/reading-through-a-hundred-layers",
)
"""Cases that take long with drivers that copy; in the gate the drivers of tests/drivers have them."""


def those(cases: str) -> str:
    """Return a choice of cases, in the gate without `LARGE`."""
    return ",".join((cases, *(f"!{case}" for case in LARGE if not LONG)))


@contextmanager
def started(*command: str) -> Iterator[ExecSubject]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as directory,
        ExecSubject(shlex.join([*command, "{socket}"]), Path(directory)) as subject,
    ):
        yield subject


@pytest.fixture(scope="module")
def in_python() -> Iterator[ExecSubject]:
    with started(sys.executable, str(EXAMPLES / "plain_folders.py")) as subject:
        yield subject


@pytest.fixture(scope="module")
def in_node() -> Iterator[ExecSubject]:
    with started("node", str(EXAMPLES / "node" / "plugin.mjs")) as subject:
        yield subject


# What the server does with calls is one code for all drivers; tests/drivers has the default plugin.
@pytest.mark.conformance(offers=ExecSubject.offers, only=those("!activation,!broken-calls"))
def test_the_readmes_plugin_conforms(conformance_case: Check, in_python: ExecSubject) -> None:
    conformance_case(in_python)


# It rejects ID maps, as it may. It keeps the programs of a Diff without a reader for longer than the
# kit waits; the case is optional.
@pytest.mark.conformance(
    offers=ExecSubject.offers, only=those("!id-maps,!inits/id-maps*,!leftovers/unread*")
)
def test_the_plugin_in_node_conforms(conformance_case: Check, in_node: ExecSubject) -> None:
    conformance_case(in_node)
