"""Each extra has what `share` needs for the stores for which an error or the documentation names it.

The commands run without all packages that an installation with only this extra would not have. The long
tests run them in such an installation.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.command import Serving
from tests.support.containerd_images import ten_layers, write_image
from tests.support.documented import ROOT
from tests.support.leftovers import mounts_below
from tests.support.registry import registry
from tests.support.shared_store import store_with
from tests.support.small_s3 import RIGHTS, small_s3

pytestmark = pytest.mark.root

LAYERS = ten_layers(5)[:3]
EXTRAS = ("", "containerd", "registry", "s3")
IN_GATE = ("", "registry")
SOME = """
import json, sys
from graphdriver.cli.main import main
codes = [main(words) for words in json.loads(sys.argv[1])]
sys.exit(max(codes))
"""
SERVE = "import sys; from graphdriver.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


class Installation:
    """A Python with an installation of this package.

    Args:
        python: the interpreter.
        absent: modules that it has and must not use.
        path: where it finds more packages.
    """

    def __init__(self, python: Path, absent: Sequence[str] = (), path: str = "") -> None:
        self._hide = f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        self._python = str(python)
        self._path = path

    def program(self, text: str) -> Sequence[str]:
        return (self._python, "-c", f"{self._hide}{text}")

    def share(
        self, *commands: Sequence[str], code: int = 0, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run commands one after the other, which return ``code`` at most; return what they print."""
        words = json.dumps([["share", *one] for one in commands])
        done = subprocess.run(
            [*self.program(SOME), words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": self._path, **(variables or {})},
            check=False,
        )
        assert done.returncode == code, (commands, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


def here_with(extra: str) -> Installation:
    """Return the Python of the tests, without what an installation with one extra does not have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    there = {"graphdriver"} | {name for one in direct for name in needed(Requirement(one))}
    absent = sorted(
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if module not in sys.stdlib_module_names
        if not {str(canonicalize_name(one)) for one in packages} & there
    )
    return Installation(Path(sys.executable), absent, str(ROOT / "src"))


def needed(requirement: Requirement) -> Iterator[str]:
    """Yield the names of the packages that a package brings with it, and its own."""
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return
    yield canonicalize_name(requirement.name)
    for text in importlib.metadata.requires(requirement.name) or ():
        yield from needed(Requirement(text))


def installed_with(extra: str, folder: Path) -> Installation:
    """Install this package with one extra, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    name = f"{ROOT}[{extra}]" if extra else str(ROOT)
    subprocess.run([folder / "bin/pip", "install", "--quiet", name], check=True)
    return Installation(folder / "bin/python")


def all_but_push(store: str, copy: Path) -> list[list[str]]:
    copy.mkdir()
    return [
        ["pull", store, "--to", str(copy)],
        ["ls", store],
        ["verify", store],
        ["gc", "--unused-for", "0s", "--remove", store],
    ]


def expect_all(said: str) -> None:
    """Expect what the commands print for a store with all layers."""
    assert said.count("3 layers, 3 new") == 2  # pushed, pulled
    assert "3 layers, sound" in said
    assert "removed" in said


def expect_without(one: Installation, folder: Path, image: str) -> None:
    """Expect that all goes on in a directory, unless layers may come compressed."""
    store = store_with(folder, LAYERS).store.address
    places = {
        store: "containerd",
        "oci://registry.invalid/layers": "registry",
        "s3://layers/site": "s3",
    }
    said = one.share(*(["push", place, image] for place in places), code=7)
    for extra in places.values():
        assert said.count(f"pip install 'graphdriver[{extra}]'") == 1
    words = ("erofs", "--shared", store, "--in-place")
    serving = Serving(folder, *words, program=one.program(SERVE)).ready()
    home = folder / "home"
    try:
        assert serving.call("Init", f"Home={home}").returncode == 0
        said = one.share(["push", store, str(home)], *all_but_push(store, folder / "copy"))
    finally:
        assert serving.end() == 0
        for point in mounts_below(home):
            subprocess.run(["umount", "--lazy", point], check=True)
    expect_all(f"3 layers, 3 new{said}")


def expect_containerd(one: Installation, folder: Path, image: str) -> None:
    store = folder / "store"
    store.mkdir()
    commands = all_but_push(str(store), folder / "copy")
    expect_all(one.share(["push", str(store), image], *commands))


def expect_registry(one: Installation, folder: Path, image: str) -> None:
    with registry(folder) as host:
        store = f"oci+http://{host}/layers"
        commands = all_but_push(store, folder / "copy")
        expect_all(
            one.share(["push", store, image], *commands, variables={"DOCKER_CONFIG": str(folder)})
        )


def expect_s3(one: Installation, folder: Path, image: str) -> None:
    store = "s3://layers/site"
    with small_s3() as server:
        server.rights = RIGHTS - {"DeleteObject"}
        said = one.share(["push", store, image], variables=server.environment)
        server.rights = RIGHTS
        said += one.share(*all_but_push(store, folder / "copy"), variables=server.environment)
    expect_all(said)


def expect_enough(extra: str, one: Installation, folder: Path) -> None:
    image = folder / "image.tar"
    write_image(image, "a:b", LAYERS)
    expect = {"": expect_without, "registry": expect_registry, "s3": expect_s3}
    expect.get(extra, expect_containerd)(one, folder, str(image))


@pytest.mark.parametrize(
    "extra",
    [pytest.param(one, marks=() if one in IN_GATE else pytest.mark.long) for one in EXTRAS],
)
def test_an_extra_is_enough_to_share_layers(extra: str, folder: Path) -> None:
    expect_enough(extra, here_with(extra), folder)


@pytest.mark.long
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_installation_with_one_extra_shares_layers(extra: str, folder: Path) -> None:
    expect_enough(extra, installed_with(extra, folder / "venv"), folder)
