"""``graphdriver layers --html``: one page of a home, with what each layer changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from graphdriver import Client
from graphdriver.cli.main import main
from graphdriver.driver import ChangeKind, mounted
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.serving.served_home import ServedHome
from tests.support.command import Serving
from tests.support.docker_root import DockerRoot
from tests.support.snapshotter import Snapshotter

BASE, TOP = "a" * 64, "b" * 64
DIFFS = [f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of an image of two layers; the upper one has a new file, and one file less."""
    root = DockerRoot(tmp_path / "root")
    served = ServedHome(VfsDriver(), "docker")
    served.claim(str(root.home))
    served.init_driver()
    driver = served.driver
    driver.create(BASE, "", "", {})
    with mounted(driver, BASE) as path:
        (Path(path) / "old").write_text("old")
        (Path(path) / "kept").write_text("kept")
    driver.create(TOP, BASE, "", {})
    with mounted(driver, TOP) as path:
        (Path(path) / "old").unlink()
        (Path(path) / "etc").mkdir()
        (Path(path) / "etc" / "new").write_text("new")
    served.close()
    root.layer(BASE, DIFFS[:1], 7)
    root.layer(TOP, DIFFS, 3)
    root.image_of(DIFFS, "debian:12")
    return root.home


def layers_in(page: Path) -> list[dict[str, Any]]:
    text = page.read_text().partition('type="application/json">')[2].partition("</script>")[0]
    found: list[dict[str, Any]] = json.loads(text)["layers"]
    return found


def test_the_page_has_what_each_layer_changed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "layers.html"
    assert main(["layers", "--home", str(home), "--html", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: 2 layers; open it in a browser\n"
    base, top = layers_in(page)
    assert (base["id"], top["id"], top["parent"]) == (BASE, TOP, 0)
    assert [owner[2] for owner in top["owners"]] == ["debian:12"]
    assert {path: (kind, size) for kind, size, path in top["changes"]} == {
        "/old": (ChangeKind.DELETED, 0),
        "/etc/": (ChangeKind.ADDED, 0),
        "/etc/new": (ChangeKind.ADDED, 3),
    }


def test_a_layer_that_cannot_be_read_says_why_on_the_page(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / BASE / "root")
    page = tmp_path / "layers.html"
    assert main(["layers", "--home", str(home), "--html", str(page)]) == 14
    base, top = layers_in(page)
    assert base["problem"] == f"{home}/{BASE}/root: No such file or directory"
    assert base["damage"]
    assert top["problem"] == base["problem"]


def test_a_page_is_not_printed_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["layers", "--home", str(home), "--html", "page.html", "--json"])
    assert ended.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "problem"),
    [("missing/layers.html", "No such file or directory"), ("link", "it is not a regular file")],
)
def test_a_page_that_cannot_be_written_is_an_error(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, problem: str
) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    page = tmp_path / file
    assert main(["layers", "--home", str(home), "--html", str(page)]) == 1
    assert capsys.readouterr().err == (
        f"graphdriver layers: the page {page} cannot be written: {problem}; choose another file\n"
    )
    assert (tmp_path / "link").is_symlink()


@pytest.mark.root
def test_the_page_of_a_snapshotter_that_runs(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "layers.html"
    with Snapshotter(folder, "overlay2") as one:
        (mount,) = one.calls.prepare("key")
        (Path(mount.source) / "file").write_text("text")
        one.calls.commit("image", "key")
        one.calls.prepare("container", "image")
        assert main(["layers", "--socket", one.address, "--html", str(page)]) == 0
    image, container = layers_in(page)
    assert [owner[2] for owner in container["owners"]] == ["container"]
    assert image["changes"] == [[ChangeKind.ADDED, 4, "/file"]]
    assert (container["changes"], container["problem"]) == ([], "")


def test_a_plugin_is_asked_for_what_the_drivers_class_cannot_tell(
    folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "layers.html"
    one = Serving(folder, "plain_folders:PlainFolders").ready()
    try:
        with Client(one.socket) as daemon:
            daemon.init(f"{folder}/home")
            for id, parent in (("base", ""), ("top", "base")):
                daemon.create(id, parent)
                (Path(daemon.get(id)) / id).write_text(id)
                daemon.put(id)
        assert main(["layers", "--socket", one.socket, "--html", str(page)]) == 0
    finally:
        one.end()
    assert [layer["changes"] for layer in layers_in(page)] == [
        [[ChangeKind.ADDED, 0, "/base"]],
        [[ChangeKind.ADDED, 0, "/top"]],
    ]
