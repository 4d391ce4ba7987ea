"""The layers of images in an archive, which is not trusted."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.driver import ReadStream
from graphdriver.errors import GraphDriverError
from graphdriver.images.archive import ImageArchive
from tests.support.containerd_images import write_image, write_oci_image
from tests.support.shared_store import links_of
from tests.support.unfiltered_tars import unfiltered

LAYERS = [tars.tar(tars.file(b"a", b"one")), tars.tar(tars.file(b"b", b"two"))]


def whole(stream: ReadStream) -> bytes:
    content = b""
    while piece := stream.read(1000):
        content += piece
    return content


def read(path: Path) -> list[list[bytes]]:
    with ImageArchive(str(path)) as archive:
        found = []
        for image in archive.images():
            assert [one.link for one in image] == links_of(LAYERS)
            tars_of = []
            for one in image:
                with one.opened() as stream:
                    tars_of.append(whole(stream))
            found.append(tars_of)
        return found


def test_an_archive_of_docker_save_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar", "a:b", LAYERS)
    assert read(tmp_path / "image.tar") == [LAYERS]


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_an_oci_layout_is_read(unpacked: bool, compression: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    write_oci_image(path, "a:b", LAYERS, compression)
    if unpacked:
        with tarfile.open(path) as archive:
            unfiltered(archive).extractall(tmp_path / "layout")
        path = tmp_path / "layout"
    assert read(path) == [LAYERS]


def write(path: Path, members: Mapping[str, object]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


ID = f"sha256:{'1' * 64}"
LOOP = {"manifests": [{"digest": ID}]}


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"x": b""}, "neither index.json nor manifest.json"),
        ({"manifest.json": b"{"}, "is not JSON"),
        ({"manifest.json": {}}, "no list where one must be"),
        ({"manifest.json": [[]]}, "lacks 'Config'"),
        ({"manifest.json": [{"Config": "../c", "Layers": []}]}, "is missing in the archive"),
        ({"manifest.json": [{"Config": "c", "Layers": []}], "c": {}}, "lacks 'rootfs'"),
        (
            {
                "manifest.json": [{"Config": "c", "Layers": ["l"]}],
                "c": {"rootfs": {"diff_ids": ["sha256:../"]}},
            },
            "do not agree",
        ),
        (
            {
                "manifest.json": [{"Config": "c", "Layers": []}],
                "c": {"rootfs": {"diff_ids": [ID]}},
            },
            "do not agree",
        ),
        ({"manifest.json": b" " * (5 << 20)}, "more than"),
        ({"index.json": {"manifests": [{"digest": "sha256:../../etc/passwd"}]}}, "not a SHA-256"),
        ({"index.json": LOOP, f"blobs/sha256/{'1' * 64}": LOOP}, "too many indexes"),
    ],
)
def test_a_damaged_or_hostile_archive_is_an_error(
    members: Mapping[str, object], problem: str, tmp_path: Path
) -> None:
    write(tmp_path / "image.tar", members)
    with pytest.raises(GraphDriverError, match=problem):
        read(tmp_path / "image.tar")


def test_what_is_no_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"x" * 2000)
    with pytest.raises(GraphDriverError, match="cannot be opened"):
        read(tmp_path / "image.tar")
