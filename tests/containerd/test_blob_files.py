"""The files of containerd's content store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphdriver.containerd.diff.blob_files import open_blob

DIGEST = f"sha256:{'ab' * 32}"


def test_a_blob_is_its_file(tmp_path: Path) -> None:
    path = tmp_path / "blobs" / "sha256" / ("ab" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    file = open_blob(str(tmp_path), DIGEST)
    assert file
    assert file.read(100) == b"content"
    file.close()


@pytest.mark.parametrize(("root", "digest"), [("", DIGEST), ("/", "sha256:../x"), ("/", "md5:0")])
def test_nothing_is_opened_without_a_directory_or_a_digest(
    root: str, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", lambda path, _: pytest.fail(f"{path} is opened"))
    assert open_blob(root, digest) is None
