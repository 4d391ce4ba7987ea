"""Layers and images as tars: made byte for byte by the tests, and read back entry by entry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MADE_AT = 1_600_000_000
"""The time of every file that `LayerTar` makes: long before any test runs."""


class LayerTar:
    """Builds the tar of one layer; entries belong to root and are from `MADE_AT` by default.

    Args:
        form: ``tarfile``'s constant for the dialect.
    """

    def __init__(self, form: int = tarfile.PAX_FORMAT) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `done`
            fileobj=self._bytes, mode="w", format=form, encoding="utf-8", errors="surrogateescape"
        )

    def add(
        self,
        name: str,
        *,
        type: bytes = tarfile.REGTYPE,
        data: bytes = b"",
        link: str = "",
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
        device: tuple[int, int] = (0, 0),
        mtime: float = MADE_AT,
        xattrs: Mapping[str, bytes] | None = None,
    ) -> LayerTar:
        """Add one entry of any type."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.linkname = type, mode, len(data), link
        entry.uid, entry.gid = owner
        entry.devmajor, entry.devminor = device
        entry.mtime = int(mtime)
        if self._tar.format == tarfile.PAX_FORMAT:
            entry.pax_headers = {
                f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
                for key, value in (xattrs or {}).items()
            }
            if mtime != int(mtime):
                entry.pax_headers["mtime"] = repr(mtime)
        self._tar.addfile(entry, io.BytesIO(data))
        return self

    def folder(self, name: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> LayerTar:
        """Add a directory."""
        return self.add(name, type=tarfile.DIRTYPE, mode=mode, owner=owner)

    def symlink(self, name: str, link: str) -> LayerTar:
        """Add a symbolic link."""
        return self.add(name, type=tarfile.SYMTYPE, link=link, mode=0o777)

    def hard_link(self, name: str, link: str) -> LayerTar:
        """Add a hard link to an earlier file."""
        return self.add(name, type=tarfile.LNKTYPE, link=link)

    def done(self) -> bytes:
        """Return the whole tar."""
        self._tar.close()
        return self._bytes.getvalue()


def image_archive(
    path: Path, tag: str, layers: Sequence[bytes], config: Mapping[str, object] | None = None
) -> str:
    """Write what ``docker load`` takes, and return the image's ID, which the bytes alone determine."""
    text = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            "history": [
                {"created": "2020-01-01T00:00:00Z", "created_by": f"layer {number}"}
                for number in range(len(layers))
            ],
        }
    ).encode()
    id = hashlib.sha256(text).hexdigest()
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [
        {
            "Config": f"{id}.json",
            "RepoTags": [tag if ":" in tag else f"{tag}:latest"],
            "Layers": names,
        }
    ]
    with tarfile.open(path, "w") as archive:
        for name, data in (
            (f"{id}.json", text),
            *zip(names, layers, strict=True),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return f"sha256:{id}"


def digest(data: bytes) -> str:
    """Return the digest of ``data`` as Docker writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def chain_id(diff_ids: Sequence[str]) -> str:
    """Return what Docker calls the layer that ends this chain (OCI image-spec, config.md)."""
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = digest(f"{chain} {diff_id}".encode())
    return chain


@dataclass(frozen=True)
class SavedImage:
    """One image in what ``docker save`` wrote."""

    id: str
    diff_ids: list[str]
    """As in the image's config."""
    found_diff_ids: list[str]
    """As the bytes of the layers in the archive have it."""
    contents: list[list[str]]
    """For each layer the result of `describe`."""


def read_saved(path: Path) -> SavedImage:
    """Read an archive that holds one image."""
    with tarfile.open(path) as archive:

        def member(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file, name
            return file.read()

        (image,) = json.loads(member("manifest.json"))
        config = member(image["Config"])
        layers = [member(name) for name in image["Layers"]]
    return SavedImage(
        id=digest(config),
        diff_ids=json.loads(config)["rootfs"]["diff_ids"],
        found_diff_ids=[digest(layer) for layer in layers],
        contents=[describe(layer) for layer in layers],
    )


def describe(archive: bytes, now: float = float("inf")) -> list[str]:
    """Return one line for each entry of a tar, sorted, with all its members.

    Args:
        archive: the tar.
        now: times from this one on are written as ``now``: two runs of a test never share them.
    """
    lines = []
    with tarfile.open(
        fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isreg() else None
            told = {
                # Without the bits of the file's type, which Docker adds: the type flag has them.
                "mode": f"{entry.mode & 0o7777:o}",
                "owner": f"{entry.uid}:{entry.gid}",
                "size": entry.size if entry.isreg() else 0,
                "mtime": "now" if entry.mtime >= now else f"{entry.mtime:.3f}",
                "link": entry.linkname,
                "device": f"{entry.devmajor}:{entry.devminor}" if entry.isdev() else "",
                "sha256": hashlib.sha256(file.read()).hexdigest()[:16] if file else "",
                **{
                    key: value.encode("utf-8", "surrogateescape").hex()
                    for key, value in entry.pax_headers.items()
                    if key.startswith("SCHILY.xattr.")
                },
            }
            words = [f"{key}={value}" for key, value in told.items() if value not in ("", 0)]
            name = ascii(entry.name.rstrip("/"))
            lines.append(f"{name} {_TYPES[entry.type]} {' '.join(words)}")
    return sorted(lines)


_TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.LNKTYPE: "hard-link",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character-device",
    tarfile.BLKTYPE: "block-device",
    tarfile.DIRTYPE: "folder",
    tarfile.FIFOTYPE: "fifo",
}
