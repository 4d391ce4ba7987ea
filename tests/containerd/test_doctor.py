"""``graphdriver doctor`` beside a real containerd, and what it makes of something that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.containerd.daemon_client import _fields, ask_containerd
from graphdriver.errors import UnreachableError
from tests.support.command import graphdriver
from tests.support.containerd import Containerd
from tests.support.snapshotter import Snapshotter


@pytest.mark.root
@pytest.mark.docker
def test_containerd_tells_its_version_and_whether_it_has_the_snapshotter(folder: Path) -> None:
    root = folder / "io.containerd.snapshotter.v1.ours"
    with Snapshotter(folder, "vfs", root=root) as one, Containerd(folder, one.address).running():
        answer = ask_containerd(f"{folder}/c.sock")
        assert answer.version[:1] in {"1", "2"}
        assert answer.snapshotters >= {"ours", "overlayfs", "native"}

        words = ["doctor", "--home", str(root), "--containerd-socket", f"{folder}/c.sock", "--json"]
        found = json.loads(graphdriver(*words).stdout)["findings"]
        texts = {one["code"]: one["text"] for one in found if one["check"] != "sockets"}
        assert texts["containerd"].startswith(f"containerd {answer.version} with the snapshotters ")
        assert texts["home"].startswith("vfs for containerd on ")
        assert not {"unknown-snapshotter", "daemon", "no-daemon", "unusable-home"} & set(texts)


def test_what_does_not_speak_grpc_or_is_not_there_is_unreachable(folder: Path) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        ask_containerd(f"{folder}/none", 0.5)


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_an_error(message: bytes) -> None:
    try:
        found = list(_fields(message))
    except (ValueError, IndexError):
        return
    assert sum(len(value) for _, value in found) <= len(message)
