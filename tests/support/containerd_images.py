"""Images as archives that ``ctr image import`` takes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from graphdriver.conformance.kit.tree import CAPABILITY
from graphdriver.conformance.plugin import tars
from tests.support.ground import tool
from tests.support.zstd_module import zstd


def chain_id(layers: Sequence[bytes]) -> str:
    """Return the name that a chain of layers has in containerd (OCI image-spec, config.md)."""
    chain = ""
    for layer in layers:
        diff = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        chain = (
            f"sha256:{hashlib.sha256(f'{chain} {diff}'.encode()).hexdigest()}" if chain else diff
        )
    return chain


def write_image(path: Path, name: str, layers: Sequence[bytes]) -> None:
    """Write an image with these layers."""
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
    }
    names = [f"layer{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "config.json", json.dumps(config).encode())
        for one, layer in zip(names, layers, strict=True):
            _add(archive, one, layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


def write_oci_image(path: Path, name: str, layers: Sequence[bytes], compression: str = "") -> None:
    """Write an image as an OCI layout, its layers as they are or compressed by gzip or zstd."""
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}
    compress = _COMPRESS[compression]
    kind = "application/vnd.oci.image"
    suffix = f"+{compression}" if compression else ""
    with tarfile.open(path, "w") as archive:

        def added(media_type: str, data: bytes) -> dict[str, object]:
            digest = hashlib.sha256(data).hexdigest()
            _add(archive, f"blobs/sha256/{digest}", data)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": added(f"{kind}.config.v1+json", json.dumps(config).encode()),
            "layers": [added(f"{kind}.layer.v1.tar{suffix}", compress(layer)) for layer in layers],
        }
        top = added(f"{kind}.manifest.v1+json", json.dumps(manifest).encode())
        top["annotations"] = {"io.containerd.image.name": name}
        _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [top]}).encode())
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def busybox() -> bytes:
    """Return a layer with a shell and its programs."""
    program = Path(shutil.which("busybox") or tool("busybox")).read_bytes()
    links = [tars.symlink(b"bin/" + name, b"busybox") for name in (b"sh", b"cat", b"sleep", b"ls")]
    return tars.tar(
        tars.directory(b"bin"),
        tars.file(b"bin/busybox", program, mode=0o755),
        *links,
        *(tars.directory(name) for name in (b"proc", b"dev", b"sys", b"etc", b"tmp")),
    )


def ten_layers(files: int) -> list[bytes]:
    """Return the layers of an image with deletions, links, capabilities and so many files.

    Each has entries for the directories that it changes: otherwise these would have new times.
    """
    many = [
        tars.file(b"many/%d/%d" % (n // 500, n), b"%d" % n, mtime=1_000_000_000 + n)
        for n in range(files)
    ]
    folders = [tars.directory(b"many/%d" % n) for n in range(files // 500 + 1)]
    capable = tars.pax([(b"SCHILY.xattr.security.capability", CAPABILITY)])
    return [
        busybox(),
        tars.tar(tars.directory(b"many"), *folders, *many),
        tars.tar(
            tars.directory(b"srv"), tars.file(b"srv/one", b"one"), tars.file(b"srv/two", b"two")
        ),
        tars.tar(tars.whiteout(b"srv/.wh.one"), tars.file(b"srv/three", os.urandom(5000))),
        tars.tar(tars.directory(b"bin"), capable, tars.file(b"bin/ping", b"ping", mode=0o755)),
        # Not to a layer below: in an overlay containerd's own differ fails at that.
        tars.tar(
            tars.file(b"srv/first", b"first"),
            tars.hard_link(b"srv/again", b"srv/first"),
            tars.symlink(b"srv/link", b"/srv/two"),
        ),
        tars.tar(
            tars.whiteout(b"many/1/.wh..wh..opq"),
            tars.directory(b"many/1"),
            tars.file(b"many/1/new"),
        ),
        tars.tar(
            tars.whiteout(b"many/.wh.2"),
            tars.file(b"many/2b", mode=0o4755, uid=1000, gid=7),
            tars.directory(b"many"),
        ),
        tars.tar(tars.whiteout(b".wh.srv"), tars.file(b"srv-is-gone")),
        tars.tar(tars.directory(b"srv", mode=0o1777), tars.file(b"srv/again", b"another")),
    ]
