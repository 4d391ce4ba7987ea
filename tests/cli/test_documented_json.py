"""Every member that a command prints as JSON is in the documentation."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.cli.main import main
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.serving.served_home import ServedHome
from tests.support.docker_root import DockerRoot
from tests.support.documented import pages

pytestmark = pytest.mark.root

KINDS_OF_CALLS = "calls"
"""A member whose own members are named by the data."""


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A home with all that can be told: an image, a layer of nobody's, and a damaged one."""
    root = DockerRoot(tmp_path)
    served = ServedHome(VfsDriver(), "docker")
    served.claim(str(root.home))
    served.init_driver()
    for id in ("base", "orphan", "lost"):
        served.driver.create(id, "", "", {})
    served.close()
    diff = f"sha256:{'1' * 64}"
    root.layer("base", [diff], 7)
    root.image_of([diff], "debian:12")
    (root.home / "lost" / "root").rmdir()
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "metadata.db").touch()
    return str(root.home)


def members(found: object) -> Iterator[str]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield name
            if name != KINDS_OF_CALLS:
                yield from members(value)
    elif isinstance(found, list):
        for one in found:
            yield from members(one)


@pytest.mark.parametrize(
    "command",
    [
        "status --home HOME",
        "layers --home HOME",
        "inspect --home HOME base",
        "du --home HOME --verify",
        "fsck HOME",
        "gc HOME",
        "doctor --home HOME",
    ],
)
def test_each_member_is_documented(command: str, home: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([*command.replace("HOME", home).split(), "--json"])
    documented = set(
        re.findall(r"`(\w+)`", pages()["docs/care.md"] + pages()["docs/operations.md"])
    )
    printed = set(members(json.loads(out.getvalue())))
    assert printed
    assert not printed - documented
