"""The page of a home's layers: what is in its file, whatever the names of layers, images and paths."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graphdriver.care.layer_changes import LayerChanges, summed
from graphdriver.care.layer_page import MOST_LISTED, listed_per_layer, script_text, write_page
from graphdriver.care.layer_tree import LayerNode
from graphdriver.care.owners import Owner, OwnerKind
from graphdriver.driver import ChangeKind
from graphdriver.homes import SizedChange
from tests.care.hostile_names import HOSTILE
from tests.care.shown_layers import home_of


class Parsed(HTMLParser):
    """The elements of a page, as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts.setdefault(self._inside[-1], []).append(data)


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*nodes: LayerNode, paths: tuple[str, ...] = (), home: str = "/home") -> str:
        def changes_of(_: LayerNode) -> LayerChanges:
            return summed((SizedChange(path, ChangeKind.ADDED, 1) for path in paths), 100)

        file = tmp_path / "page.html"
        write_page(home_of(nodes, home, notes=(home,)), changes_of, str(file))
        return file.read_text()

    return written


def test_a_page_holds_what_is_known_of_each_layer(write: Write) -> None:
    owner = Owner(OwnerKind.IMAGE, "sha256:1", "debian:12")
    page = write(
        LayerNode("base", "", own_size=100, created=5.0, owners=(owner,)),
        LayerNode("top", "base"),
        paths=("/etc/passwd",),
    )
    data = json.loads(Parsed(page).texts["script"][0])
    base, top = data["layers"]
    assert (base["id"], base["parent"], base["own"], base["created"]) == ("base", None, 100, 5.0)
    assert base["owners"] == [[data["kinds"].index("image"), "sha256:1", "debian:12"]]
    assert (top["parent"], top["below"], top["own"], top["owners"]) == (0, 100, None, None)
    assert top["changes"] == [[int(ChangeKind.ADDED), 1, "/etc/passwd"]]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_the_data(write: Write, name: str) -> None:
    plain = Parsed(write(LayerNode("id", ""), paths=("/a",)))
    node = LayerNode(
        "id", "", path=name, got_by=name, damage=name, owners=(Owner(OwnerKind.IMAGE, name, name),)
    )
    page = write(node, paths=(f"/{name}",), home=name)
    found = Parsed(page)
    assert found.texts["script"][1:] == plain.texts["script"][1:]
    assert [one for one in found.attributes if one[0] != "content"] == [
        one for one in plain.attributes if one[0] != "content"
    ]
    layer = json.loads(found.texts["script"][0])["layers"][0]
    assert layer["changes"][0][2].isprintable()
    assert layer["path"] == layer["owners"][0][2] == layer["damage"]


def test_names_that_cannot_be_shown_are_written_as_codes(write: Write) -> None:
    page = write(LayerNode("id", ""), paths=(os.fsdecode(b"/caf\xc3\xa9-\xff"), "/a\u202eb\x1b[1m"))
    changes = json.loads(Parsed(page).texts["script"][0])["layers"][0]["changes"]
    assert {path for *_, path in changes} == {"/café-\\xff", "/a\\u202eb\\x1b[1m"}


def test_the_policy_lets_a_browser_run_this_script_and_load_nothing(write: Write) -> None:
    page = write(LayerNode("id", ""))
    found = Parsed(page)
    policy = next(value for key, value in found.attributes if value and "default-src" in value)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    digests = {
        tag: base64.b64encode(hashlib.sha256(found.texts[tag][-1].encode()).digest()).decode()
        for tag in ("script", "style")
    }
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digests['script']}'",
        "style-src": f"'sha256-{digests['style']}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not {"src", "href", "style", "onclick", "onload"} & {key for key, _ in found.attributes}
    assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", page)


def test_data_is_json_that_ends_no_script() -> None:
    text = script_text(["</ScRiPt>", "<!--", "\u2028", "&amp;"])
    assert text.isascii()
    assert not set(text) & set("<>&")
    assert json.loads(text) == ["</ScRiPt>", "<!--", "\u2028", "&amp;"]


def test_only_the_owner_can_read_a_page(write: Write, tmp_path: Path) -> None:
    write(LayerNode("id", ""))
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600


def test_a_page_lists_fewer_changes_of_each_layer_the_more_layers_there_are() -> None:
    assert listed_per_layer(0) == listed_per_layer(1) == MOST_LISTED
    assert listed_per_layer(1_000) == 200
    assert 10_000 * listed_per_layer(10_000) <= 200_000
