"""CVE-2014-9358: IDs of layers that are paths, in every call that takes one."""

from __future__ import annotations

import io
import json
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Handler
from graphdriver.conformance.plugin import tars
from graphdriver.docker.request_messages import Request
from graphdriver.drivers.vfs.driver import VfsDriver
from tests.support.canary import Canary

CALLS = ("Create", "CreateReadWrite", "Remove", "Get", "Put", "Exists", "GetMetadata")
COMPARISONS = ("Changes", "DiffSize", "Diff")
PATHS = (
    "../canary",
    "a/../../canary",
    "..",
    ".",
    ".trash",
    ".staging",
    ".graphdriver",
    "a/root",
    "a\0",
    "a\n",
    "\u00e9",
    "a" * 129,
    "-rf",
)


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary.hatch(tmp_path / "canary")


@pytest.fixture
def handler(tmp_path: Path, canary: Canary) -> Iterator[Handler]:
    """A served vfs with one layer, in a home beside the canary."""
    handler = Handler(VfsDriver())
    assert call(handler, "Init", {"Home": str(tmp_path / "home")})[0] == 200
    assert call(handler, "Create", {"ID": "a"})[0] == 200
    yield handler
    handler.close()


def call(handler: Handler, name: str, members: dict[str, str]) -> tuple[int, str]:
    body = io.BytesIO(json.dumps(members).encode())
    return answer(handler, Request("POST", f"/GraphDriver.{name}", "", body))


def answer(handler: Handler, request: Request) -> tuple[int, str]:
    answer = handler.handle(request)
    assert isinstance(answer.body, bytes)
    return answer.status, answer.body.decode()


def all_in(home: Path) -> list[str]:
    return sorted(str(path) for path in home.rglob("*"))


@pytest.mark.parametrize("id", PATHS)
def test_no_call_reaches_outside_its_home_by_an_id(
    tmp_path: Path, canary: Canary, handler: Handler, id: str
) -> None:
    before = all_in(tmp_path / "home")
    with canary.unharmed():
        for name in CALLS + COMPARISONS:
            status, said = call(handler, name, {"ID": id})
            assert status == 400
            assert "ID must be a layer's ID" in said
        for name in COMPARISONS:
            assert call(handler, name, {"ID": "a", "Parent": id})[0] == 400
        for name in ("Create", "CreateReadWrite"):
            assert call(handler, name, {"ID": "b", "Parent": id})[0] == 400
    assert all_in(tmp_path / "home") == before


@pytest.mark.parametrize("id", [*PATHS, "/etc", "%2e%2e/canary"])
@pytest.mark.parametrize("member", ["id", "parent"])
def test_no_tar_is_applied_outside_its_home_by_an_id(
    tmp_path: Path, canary: Canary, handler: Handler, id: str, member: str
) -> None:
    query = {"id": "a", "parent": ""} | {member: id}
    body = io.BytesIO(tars.tar(tars.file(b"secret", b"owned")))
    before = all_in(tmp_path / "home")
    with canary.unharmed():
        request = Request(
            "POST", "/GraphDriver.ApplyDiff", urllib.parse.urlencode(query, safe="/."), body
        )
        assert answer(handler, request)[0] == 400
    assert all_in(tmp_path / "home") == before
    assert os.listdir(tmp_path / "home" / "a" / "root") == []
