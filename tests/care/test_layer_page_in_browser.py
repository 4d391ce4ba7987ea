"""A person opens the page of a home's layers in a real browser, and clicks through it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from graphdriver.care.layer_changes import LayerChanges, summed
from graphdriver.care.layer_page import write_page
from graphdriver.care.layer_tree import LayerNode, LayerTree
from graphdriver.care.owners import Owner, OwnerKind
from graphdriver.cli.main import main
from graphdriver.driver import ChangeKind, mounted
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.homes import SizedChange
from graphdriver.serving.served_home import ServedHome
from tests.care.hostile_names import HOSTILE
from tests.care.shown_layers import home_of
from tests.support.browser import Browser, running
from tests.support.docker_root import DockerRoot

pytestmark = pytest.mark.long

DEBIAN = Owner(OwnerKind.IMAGE, "sha256:aa", "debian:12")
WEB = Owner(OwnerKind.IMAGE, "sha256:bb", "registry.example/shop/web:1.4")
RUNNING = Owner(OwnerKind.CONTAINER, "c0ffee", "shop-web")
CACHE = Owner(OwnerKind.BUILD_CACHE, "k1", "k1")

LAYERS = (
    LayerNode("a" * 64, "", own_size=124_000_000, inodes=9_000, owners=(DEBIAN, WEB), created=1e9),
    LayerNode("b" * 64, "a" * 64, own_size=61_000_000, inodes=5_000, owners=(WEB,), created=1.1e9),
    LayerNode(
        "c" * 64,
        "b" * 64,
        own_size=8_000_000,
        inodes=300,
        owners=(WEB,),
        gets=12,
        got_by="dockerd (7)",
    ),
    LayerNode(
        "d" * 64, "c" * 64, own_size=3_000_000, owners=(RUNNING,), mounted=True, references=1
    ),
    LayerNode("e" * 64, "b" * 64, own_size=40_000_000, owners=(CACHE,)),
    LayerNode("f" * 64, "a" * 64, own_size=25_000_000, owners=()),
    LayerNode("1" * 64, "a" * 64, own_size=9_000_000, owners=(), unfinished=True),
    LayerNode("2" * 64, "9" * 64, own_size=30_000_000, owners=(WEB,), damage="its parent is gone"),
)
CHANGES = {
    "b": [
        SizedChange("/usr/lib/node/", ChangeKind.ADDED, 0),
        SizedChange("/usr/lib/node/libnode.so.108", ChangeKind.ADDED, 41_000_000),
        *(SizedChange(f"/usr/share/doc/file-{n}", ChangeKind.ADDED, 2_000 + n) for n in range(900)),
        SizedChange("/etc/ssl/certs/ca-certificates.crt", ChangeKind.MODIFIED, 200_000),
        SizedChange("/var/lib/apt/lists", ChangeKind.DELETED, 0),
    ]
}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with running(tmp_path) as one:
        yield one
        assert one.complaints() == []
        assert one.result("performance.getEntriesByType('resource').length") == 0, (
            "nothing is loaded"
        )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "layers.html"
    layers = home_of(LAYERS, "/var/lib/docker/py-overlay2", "overlay2")
    write_page(layers, lambda node: summed(CHANGES.get(node.id[0], ()), 10_000), str(file))
    return file


def test_a_person_sees_where_the_bytes_are(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.text("h1") == "/var/lib/docker/py-overlay2"
    assert "300 MB" in browser.text("#details")
    widths = {
        node.get_attribute("data-number"): node.size["width"] for node in browser.all(".node")
    }
    assert len(widths) == len(LAYERS)
    labels = [node.text for node in browser.all(".node .label")]
    assert any("debian:12" in label and "124 MB" in label for label in labels)
    parents = LayerTree.of(LAYERS).layers
    for number, node in enumerate(parents.values()):
        assert all(
            widths[str([*parents].index(child))] <= widths[str(number)] for child in node.children
        )
    browser.picture("overview")
    browser.open(page, dark=True)
    browser.picture("overview-dark")
    assert browser.result("getComputedStyle(document.body).backgroundColor") == "rgb(14, 20, 27)"


def test_a_person_finds_a_file_and_the_layer_that_has_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("/", "libnode")
    assert browser.text("#found") == "1 layer"
    browser.press(Keys.ENTER)
    assert "b" * 64 in browser.text("#details")
    assert [row.text.split()[1] for row in browser.all(".path")] == ["/usr/lib/node/libnode.so.108"]
    browser.picture("search")

    browser.write("#query", "shop-web")
    browser.press(Keys.ENTER)
    assert "d" * 64 in browser.text("#details")
    browser.write("#query", "ccccc")
    browser.press(Keys.ENTER)
    assert "12" in browser.text("#details dl")
    browser.write("#query", "no such thing")
    assert browser.text("#found") == "0 layers"


def test_a_person_sees_what_a_layer_changed(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one(".node[title*=bbbb]").click()
    details = browser.text("#details")
    for shown in (
        "61.0 MB",
        "124 MB",
        "registry.example/shop/web:1.4",
        "+ Added 902",
        "Deleted 1",
    ):
        assert shown in details
    assert len(browser.all(".path")) == 200
    browser.one(".more", "704 paths left").click()
    assert len(browser.all(".path")) == 904
    browser.one(".kinds button", "Deleted").click()
    assert [row.text.split()[1] for row in browser.all(".path")] == ["/var/lib/apt/lists"]
    browser.one(".kinds button", "Deleted").click()
    browser.one(".places .link", "/usr/lib").click()
    assert {row.text.split()[1] for row in browser.all(".path")} == {
        "/usr/lib/node/libnode.so.108",
        "/usr/lib/node/",
    }
    browser.result("document.getElementById('changes').scrollIntoView()")
    browser.picture("changes")


def test_a_person_needs_no_mouse(browser: Browser, page: Path) -> None:
    browser.open(page)
    chosen = "document.querySelector('.details .id')?.textContent[0]"
    browser.result("document.querySelector('.node[tabindex=\"0\"]').focus()")
    seen = []
    for key in (Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ARROW_RIGHT):
        browser.press(key)
        seen.append(browser.result(chosen))
    assert seen == ["a", "b", "e", "b", "f"]
    browser.press(Keys.ENTER)
    assert len(browser.all(".node")) == 2
    browser.picture("zoomed")
    browser.press(Keys.ESCAPE)
    assert "with 6 layers on it" in browser.text("#crumbs")


def test_a_person_lists_what_nothing_needs(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one("#filters button", "Needed by nothing").click()
    browser.one("#as-list").click()
    assert [row.get_attribute("title") for row in browser.all("#rows tr")] == ["f" * 64, "1" * 64]
    browser.one("#filters button", "Needed by nothing").click()
    browser.one("#columns button", "Own").click()
    sizes = [row.text for row in browser.all("#rows .right:nth-child(3)")]
    assert sizes == [
        "3.0 MB", "8.0 MB", "9.0 MB", "25.0 MB", "30.0 MB", "40.0 MB", "61.0 MB", "124 MB"
    ]  # fmt: skip
    browser.one("#rows tr", "2222").click()
    assert "Damaged: its parent is gone." in browser.text("#details")
    browser.picture("list")


def test_the_page_of_a_real_home(browser: Browser, tmp_path: Path) -> None:
    root = DockerRoot(tmp_path / "root")
    served = ServedHome(VfsDriver(), "docker")
    served.claim(str(root.home))
    served.init_driver()
    for id, parent in (("base", ""), ("top", "base")):
        served.driver.create(id, parent, "", {})
        with mounted(served.driver, id) as path:
            (Path(path) / f"of-{id}").write_text(id)
    served.close()
    diffs = [f"sha256:{letter * 64}" for letter in "ab"]
    root.layer("base", diffs[:1], 4)
    root.layer("top", diffs, 3)
    root.image_of(diffs, "shop/web:1.4")
    file = tmp_path / "real.html"
    assert main(["layers", "--home", str(root.home), "--html", str(file)]) == 0
    browser.open(file)
    browser.write("#query", "of-top")
    browser.press(Keys.ENTER)
    assert browser.text("#details h2") == "shop/web:1.4"
    assert [row.text.split() for row in browser.all(".path")] == [["+", "/of-top", "3", "B"]]
    browser.one("#details dl .link").click()
    assert browser.text("#details h2") == "in shop/web:1.4"


def test_hostile_names_are_shown_and_do_nothing(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    nodes = [
        LayerNode(
            f"layer-{n}", "", own_size=1, path=name, got_by=name, damage=name, gets=1, last_get=1e9,
            owners=(Owner(OwnerKind.IMAGE, name, name),),
        )
        for n, name in enumerate(HOSTILE)
    ]  # fmt: skip

    def changes_of(node: LayerNode) -> LayerChanges:
        return summed([SizedChange(f"/{node.path}", ChangeKind.ADDED, 1)], 10)

    write_page(home_of(nodes, HOSTILE[0], HOSTILE[1], HOSTILE), changes_of, str(file))
    browser.open(file)
    scripts = browser.result("document.scripts.length")
    for node in range(len(HOSTILE)):
        browser.all(".node")[node].click()
    browser.all(".node")[0].click()
    assert browser.text("h1") == HOSTILE[0]
    assert "</script><script>alert(1)</script>" in browser.text("#changes")
    assert browser.result("document.scripts.length") == scripts == 2
    assert browser.all("img, iframe, link, object") == []
    browser.picture("hostile")


def test_a_thousand_layers_and_ten_thousand_changes(browser: Browser, tmp_path: Path) -> None:
    chains, length = 20, 50
    nodes = [
        LayerNode(f"{chain:02}-{n:02}", f"{chain:02}-{n - 1:02}" if n else "", own_size=(n + 1) * 1000,
                  owners=(Owner(OwnerKind.IMAGE, str(chain), f"image-{chain}:1"),))
        for chain in range(chains) for n in range(length)
    ]  # fmt: skip
    many = [SizedChange(f"/data/file-{n:05}", ChangeKind.ADDED, n) for n in range(10_000)]

    def changes_of(node: LayerNode) -> LayerChanges:
        return summed(many, 10_000 if node.id == "07-49" else 100)

    file = tmp_path / "many.html"
    write_page(home_of(nodes), changes_of, str(file))
    browser.open(file)
    assert len(browser.all(".node")) > 500
    browser.picture("thousand")
    browser.write("#query", "file-00000")
    browser.press(Keys.ENTER)
    assert browser.text(".details .id") == "07-49"
    assert browser.one(".node[aria-selected='true']").size["width"] >= 11
    assert [row.text.split()[1] for row in browser.all(".path")] == ["/data/file-00000"]
    browser.write("#query", "")
    assert re.search(r"9,800 paths left", browser.text("#changes .more"))
    browser.picture("thousand-chosen")
    browser.one("#as-list").click()
    assert len(browser.all("#rows tr")) == 500
    browser.one("#more-rows", "500 layers left").click()
    assert len(browser.all("#rows tr")) == 1_000
