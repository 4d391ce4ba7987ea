"""The directory of a managed plugin: what is in it, and what is refused."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from graphdriver.docker.managed.bundle import expect_reference, make_bundle
from graphdriver.docker.managed.distributions import absent, needed
from graphdriver.docker.managed.rootfs import Rootfs
from graphdriver.errors import MalformedRequestError, UnsupportedError
from tests.support.command import graphdriver


@pytest.mark.parametrize(
    "name", ["example/overlay2:1", "127.0.0.1:5000/a/b-c.d:v1_2", "localhost:80/x:latest", "x:1"]
)
def test_a_plugin_is_named_as_docker_names_images_with_a_tag(name: str) -> None:
    assert expect_reference(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "example/overlay2", "Example/x:1", "x:", ":1", "a/../b:1", "x:1:2", "a//b:1", "/x:1"],
)
def test_another_name_is_refused_with_what_to_write(name: str) -> None:
    with pytest.raises(MalformedRequestError, match="ORG/NAME:TAG"):
        expect_reference(name)


def test_the_root_holds_a_whole_interpreter_and_the_packages(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    output.mkdir()  # an empty directory may be there
    size = make_bundle("erofs", "graphdriver", {"CAP_SYS_ADMIN"}, str(output))
    assert size == sum(file.lstat().st_size for file in output.rglob("*") if not file.is_dir())
    config = json.loads((output / "config.json").read_text())
    assert config["interface"] == {
        "types": ["docker.graphdriver/1.0"],
        "socket": "graphdriver.sock",
    }
    assert config["linux"]["capabilities"] == ["CAP_SYS_ADMIN"]
    interpreter, *rest = config["entrypoint"]
    environment = {one["name"]: one["value"] for one in config["env"]}
    # Every module of the standard library that is there can be imported: no library is missing.
    script = (
        "import pkgutil, importlib, json, sys, graphdriver.cli.main, httptools, sysconfig\n"
        "from isal.isal_zlib import crc32\n"  # of erofs's extra
        "where = [sysconfig.get_path('platstdlib') + '/lib-dynload']\n"
        "for one in pkgutil.iter_modules(where): importlib.import_module(one.name)\n"
        "print(json.dumps([sys.prefix, graphdriver.__file__, graphdriver.__version__]))\n"
    )
    command = [interpreter, *rest[: rest.index("-m")], "-c", script]
    found = subprocess.run(
        ["chroot", str(output / "rootfs"), *command],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    prefix, module, version = json.loads(found.stdout)
    assert interpreter.startswith(prefix)
    assert module == "/usr/lib/graphdriver/graphdriver/__init__.py"
    assert version == importlib.metadata.version("graphdriver")
    for name in ("isal", "httptools"):
        (records,) = (output / "rootfs/usr/lib/graphdriver").glob(f"{name}-*.dist-info")
        assert (records / "LICENSE").is_file()
    assert sorted(os.listdir(tmp_path)) == ["bundle"]


def test_a_directory_with_something_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UnsupportedError, match="not an empty directory"):
        make_bundle("vfs", "graphdriver", (), str(tmp_path))
    assert os.listdir(tmp_path) == ["mine"]


def test_nothing_is_left_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="pip install no-such-package"):
        make_bundle("vfs", "no-such-package", (), str(tmp_path / "bundle"))
    assert os.listdir(tmp_path) == []


def test_required_packages_are_found_and_those_of_extras_left_out() -> None:
    names = {found.name for found in needed(["graphdriver"])}
    assert names == {"graphdriver", "httptools"}
    assert {found.name for found in needed(["graphdriver"], extra="vfs")} == names


def test_of_a_drivers_own_extra_comes_along_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {found.name for found in needed(["graphdriver"], extra="erofs")}
    assert names == {"graphdriver", "httptools", "isal"}
    assert absent("graphdriver", "erofs") == []
    records = tmp_path / "theirs-1.dist-info"
    records.mkdir()
    (records / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: theirs\nVersion: 1\nRequires-Dist: httptools\n"
        "Provides-Extra: fast\nRequires-Dist: isal>=1 ; extra == 'fast'\n"
        'Requires-Dist: no-such-package ; (python_version > "3") and extra == "fast"\n'
        'Requires-Dist: grpcio ; extra == "other"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert [found.name for found in needed(["theirs"], "fast")] == ["theirs", "httptools", "isal"]
    assert absent("theirs", "fast") == ["no-such-package"]


def test_a_program_of_which_a_library_is_missing_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "true"
    content = Path("/bin/true").read_bytes()
    assert b"libc.so.6" in content
    program.write_bytes(content.replace(b"libc.so.6", b"libX.so.6"))
    program.chmod(0o755)
    (tmp_path / "root").mkdir()
    rootfs = Rootfs(str(tmp_path / "root"))
    rootfs.add_file(str(program))
    with pytest.raises(UnsupportedError, match=r"libX\.so\.6 is missing"):
        rootfs.add_libraries()


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        ("fuse-overlayfs", "would end the mounts of running containers"),
        ("plain_folders:PlainFolders", "is not installed"),
        ("no-such-driver", "does not exist"),
    ],
)
def test_a_driver_that_cannot_be_packaged_is_refused(tmp_path: Path, driver: str, why: str) -> None:
    done = graphdriver("package", driver, "--name", "a/b:1", "--output", str(tmp_path / "b"))
    assert done.returncode == 7
    assert why in done.stderr.decode()
    assert os.listdir(tmp_path) == []


def test_the_packages_of_a_driver_of_another_author_come_along(tmp_path: Path) -> None:
    """Its package is installed in a directory of its own, with a record and an entry point."""
    site = tmp_path / "site"
    records = site / "their_driver-3.dist-info"
    records.mkdir(parents=True)
    (site / "their_driver.py").write_text(
        "from plain_folders import PlainFolders\nclass Theirs(PlainFolders): pass\n"
    )
    (site / "plain_folders.py").write_text(Path("examples/plain_folders.py").read_text())
    (records / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-driver\nVersion: 3\n"
        "Requires-Dist: no-such-package ; extra == 'theirs'\n"
    )
    (records / "entry_points.txt").write_text(
        "[graphdriver.drivers]\ntheirs = their_driver:Theirs\n"
    )
    (records / "top_level.txt").write_text("their_driver\nplain_folders\n")
    bundle = tmp_path / "bundle"
    done = graphdriver(
        *("package", "theirs", "--name", "a/b:1", "--output", str(bundle)), path=str(site)
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"pip install 'their-driver[theirs]'" in done.stderr
    packages = bundle / "rootfs/usr/lib/graphdriver"
    assert (packages / "their_driver.py").is_file()
    assert (packages / "plain_folders.py").is_file()
    assert (packages / "their_driver-3.dist-info/entry_points.txt").is_file()
    # It declares no needs, so it keeps all that there are.
    capabilities = json.loads((bundle / "config.json").read_text())["linux"]["capabilities"]
    assert "CAP_NET_ADMIN" in capabilities
    shutil.rmtree(bundle)
