"""``make dist``: the wheel, the sdist and the SBOM, and that an installation from them works."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import graphdriver
from graphdriver.docker.client import Client
from tests.support.documented import ROOT, block
from tests.support.waiting import wait_until

NAMED = f"graphdriver-{graphdriver.__version__}"
WHEEL = f"{NAMED}-py3-none-any.whl"
SDIST = f"{NAMED}.tar.gz"
SBOM = f"{NAMED}.cdx.json"
EXTRAS = "[containerd,metrics,registry,s3,tables]"
FROM_REPOSITORY = block("docs/how-to/install.md", "sh", "pip install '.[")
FROM_WHEEL = block("docs/how-to/install.md", "sh", "graphdriver-*.whl")
WITHOUT_EXTRAS = FROM_WHEEL.replace(EXTRAS, "")
UNINSTALLS = block("docs/how-to/install.md", "sh", "rm -r /opt/graphdriver")
FROM_SDIST = FROM_WHEEL.replace(".whl", ".tar.gz")


def make_dist(output: Path) -> Path:
    done = subprocess.run([ROOT / "release/dist", output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dist(tmp_path_factory.mktemp("first") / "dist")


def committed(*below: str) -> set[str]:
    command = ["git", "ls-tree", "-r", "-z", "--name-only", "HEAD", *below]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(found.split("\0")) - {""}


def test_two_builds_have_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    again = make_dist(tmp_path / "dist")
    assert sorted(os.listdir(dist)) == sorted([WHEEL, SDIST, SBOM])
    for name in os.listdir(dist):
        first, second = (hashlib.sha256((one / name).read_bytes()) for one in (dist, again))
        assert first.hexdigest() == second.hexdigest(), name


def test_the_sdist_holds_every_committed_file(dist: Path) -> None:
    with tarfile.open(dist / SDIST) as tar:
        members = tar.getmembers()
    files = {one.name.removeprefix(f"{NAMED}/") for one in members if one.isfile()}
    assert files == committed() | {"PKG-INFO"}
    assert {(one.uid, one.gid, one.mode & 0o7022) for one in members} == {(0, 0, 0)}


def test_the_wheel_holds_the_package_and_its_licence(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = set(wheel.namelist())
    package = {one.removeprefix("src/") for one in committed("src")}
    records = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert names == package | {f"{NAMED}.dist-info/{one}" for one in records}


def test_the_metadata_is_valid_and_complete(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        metadata = Metadata.from_email(wheel.read(f"{NAMED}.dist-info/METADATA"))
    assert (metadata.name, str(metadata.version)) == ("graphdriver", graphdriver.__version__)
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.author
    assert metadata.summary
    assert (
        metadata.description
        and metadata.description.rstrip() == (ROOT / "README.md").read_text().rstrip()
    )
    assert str(metadata.requires_python) == ">=3.11"
    # Whoever installs without an extra gets the parser of HTTP and nothing else.
    needed = {one.name for one in metadata.requires_dist or () if not one.marker}
    assert needed == {"httptools"}


def test_the_sbom_lists_what_an_installation_with_all_extras_holds(dist: Path) -> None:
    sbom = json.loads((dist / SBOM).read_text())
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        metadata = Metadata.from_email(wheel.read(f"{NAMED}.dist-info/METADATA"))
    assert sbom["bomFormat"] == "CycloneDX"
    about = sbom["metadata"]["component"]
    assert (about["name"], about["version"]) == ("graphdriver", graphdriver.__version__)
    found = {canonicalize_name(one["name"]): one["version"] for one in sbom["components"]}
    for requirement in metadata.requires_dist or ():
        if is_for_users(requirement):
            assert found[canonicalize_name(requirement.name)] in requirement.specifier
    assert str(ROOT) not in json.dumps(sbom)


def is_for_users(requirement: Requirement) -> bool:
    marker = requirement.marker
    extras = [{}, *({"extra": one} for one in EXTRAS.strip("[]").split(","))]
    return not marker or any(marker.evaluate(one) for one in extras)


class Installed:
    """A new environment with the package in it, as a user has it: nothing of the checkout.

    Args:
        directory: where it is made, instead of /opt.
        commands: what makes it in /opt/graphdriver.
        source: the directory in which the commands run.
    """

    def __init__(self, directory: Path, commands: str, source: Path) -> None:
        self.directory = directory
        self._bin = directory / "graphdriver/bin"
        self._local = directory / "local"
        self._local.mkdir()
        self._follow(commands, source)

    def uninstall(self) -> None:
        """Follow the page once more."""
        self._follow(UNINSTALLS, self.directory)
        assert not self._bin.exists()
        assert not os.listdir(self._local)

    def _follow(self, commands: str, at: Path) -> None:
        here = commands.replace("/opt", str(self.directory))
        here = here.replace("/usr/local/bin", str(self._local))
        subprocess.run(["bash", "-euc", here], cwd=at, check=True)

    def run(self, program: str, *words: str, code: int = 0) -> str:
        """Run a program of the environment to its end; return what it printed."""
        with self._started(program, *words) as process:
            out, err = process.communicate(timeout=300)
        assert process.returncode == code, (words, out, err)
        return out + err

    @contextlib.contextmanager
    def serving(self, socket: Path, *words: str) -> Iterator[None]:
        """Run ``graphdriver`` until the end of a block; it is to end well at SIGTERM."""
        with self._started("graphdriver", *words) as process:
            try:
                wait_until(lambda: socket.exists() or process.poll() is not None)
                yield
            finally:
                process.terminate()
                out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (out, err)

    def _started(self, program: str, *words: str) -> subprocess.Popen[str]:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.Popen(
            [self._bin / program, *words],
            cwd=self.directory,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.mark.root
def test_an_installation_without_extras_serves_docker(dist: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, WITHOUT_EXTRAS, dist)
    assert installed.run("graphdriver", "--version") == f"graphdriver {graphdriver.__version__}\n"
    packages = json.loads(installed.run("pip", "list", "--format=json"))
    assert {one["name"] for one in packages} - {"pip", "setuptools"} == {"graphdriver", "httptools"}
    assert "vfs" in installed.run("graphdriver", "drivers")
    socket = tmp_path / "plugin.sock"
    serving = installed.serving(socket, "serve", "vfs", "--socket", str(socket))
    with serving, Client(str(socket)) as client:
        client.init(str(tmp_path / "home"), [], [], [])
        assert ("Plugin Version", graphdriver.__version__) in client.status()
        client.create("layer", "", "", {})
        assert os.path.isdir(client.get("layer", ""))
        client.put("layer")
    words = ("snapshotter", "vfs", "--address", str(socket))
    said = installed.run("graphdriver", *words, code=7)
    assert "pip install 'graphdriver[containerd]'" in said
    installed.uninstall()


@pytest.mark.root
@pytest.mark.parametrize(
    "commands",
    [
        FROM_REPOSITORY,
        pytest.param(FROM_WHEEL, marks=pytest.mark.long),
        pytest.param(FROM_SDIST, marks=pytest.mark.long),
    ],
    ids=["repository", "wheel", "sdist"],
)
def test_an_installation_with_extras_serves_containerd(
    dist: Path, tmp_path: Path, commands: str
) -> None:
    source = dist
    if commands == FROM_REPOSITORY:
        source = tmp_path / "checkout"
        subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    installed = Installed(tmp_path, commands, source)
    socket = tmp_path / "snapshotter.sock"
    place = ("--address", str(socket), "--root", str(tmp_path / "root"))
    with installed.serving(socket, "snapshotter", "vfs", *place, "--metrics", "127.0.0.1:0"):
        shown = json.loads(
            installed.run("graphdriver", "status", "--json", "--socket", str(socket))
        )
        assert shown["version"] == graphdriver.__version__
