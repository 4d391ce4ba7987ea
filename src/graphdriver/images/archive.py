"""The layers of the images in an archive, without unpacking it.

An archive is what ``docker save`` writes (``manifest.json``), or an OCI layout (``oci-layout``,
``index.json`` and blobs; OCI image-spec, "Image Layout") as a tar or as a directory. It is not trusted:
texts are limited, names are only looked up among the archive's own, and the caller checks what the
layers contain by their diff IDs.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO, Any, Final, Self

from graphdriver.blobs.formats import FORMATS, Compression, decompressed
from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError, UnsupportedError
from graphdriver.images.layer import ImageLayer
from graphdriver.linux.regular_file import open_beneath
from graphdriver.shared.keys import Link, is_digest

_TEXT: Final = 4 << 20
"""The most bytes of a manifest or of a configuration."""

_DEPTH: Final = 4
"""How many indexes may be in one another."""

_MAGIC: Final[Sequence[tuple[bytes, Compression]]] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


class ImageArchive:
    """An archive of images, open for the length of a ``with`` block.

    Args:
        path: a tar or a directory.

    Raises:
        UnsupportedError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tar: tarfile.TarFile | None = None
        self._directory: int | None = None

    def __enter__(self) -> Self:
        if os.path.isdir(self._path):
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return self
        try:
            self._tar = tarfile.open(self._path, "r:")
        except (OSError, tarfile.TarError) as error:
            raise UnsupportedError(f"the archive {self._path} cannot be opened: {error}") from error
        return self

    def __exit__(self, *exc: object) -> None:
        if self._tar:
            self._tar.close()
        if self._directory is not None:
            os.close(self._directory)

    def images(self) -> Iterator[Sequence[ImageLayer]]:
        """Yield the layers of each image, the lowest first.

        Raises:
            BadArchiveError: the archive is damaged, or none of images.
        """
        if self._has("index.json"):
            yield from self._of_index(self._json("index.json"), _DEPTH)
        elif self._has("manifest.json"):
            for one in _listed(self._json("manifest.json")):
                config = self._json(_text(one, "Config"))
                yield self._layers(config, [(name, None) for name in _texts(one, "Layers")])
        else:
            raise BadArchiveError(f"{self._path} has neither index.json nor manifest.json")

    def _of_index(self, index: Any, depth: int) -> Iterator[Sequence[ImageLayer]]:
        if not depth:
            raise BadArchiveError("too many indexes are in one another")
        for descriptor in _listed(_member(index, "manifests")):
            found = self._json(_blob(descriptor))
            if isinstance(found, dict) and "manifests" in found:
                yield from self._of_index(found, depth - 1)
                continue
            config = self._json(_blob(_member(found, "config")))
            layers = _listed(_member(found, "layers"))
            if not isinstance(config, dict) or "rootfs" not in config:
                continue  # an attestation or another artifact
            yield self._layers(config, [(_blob(one), _text(one, "mediaType")) for one in layers])

    def _layers(self, config: Any, names: Sequence[tuple[str, str | None]]) -> Sequence[ImageLayer]:
        diff_ids = _texts(_member(config, "rootfs"), "diff_ids")
        if len(diff_ids) != len(names) or not all(map(is_digest, diff_ids)):
            raise BadArchiveError("an image's layers and diff IDs do not agree")
        layers: list[ImageLayer] = []
        for diff_id, (name, media_type) in zip(diff_ids, names, strict=True):
            link = Link(layers[-1].link.chain_id if layers else "", diff_id)
            layers.append(ImageLayer(link, self._opener(name, media_type)))
        return layers

    def _opener(
        self, name: str, media_type: str | None
    ) -> Callable[[], AbstractContextManager[ReadStream]]:
        if media_type is not None and media_type not in FORMATS:
            raise UnsupportedError(f"{media_type!r:.200} is no media type of a layer")

        @contextmanager
        def opened() -> Iterator[ReadStream]:
            with ExitStack() as held:
                compression = FORMATS[media_type] if media_type else self._guessed(name)
                yield decompressed(held.enter_context(self._opened(name)), compression)

        return opened

    def _guessed(self, name: str) -> Compression:
        """Return how a layer is compressed, as Docker finds it out: by its first bytes."""
        with self._opened(name) as file:
            first = file.read(4)
        return next((one for magic, one in _MAGIC if first.startswith(magic)), "")

    def _json(self, name: str) -> Any:
        with self._opened(name) as file:
            text = file.read(_TEXT + 1)
        if len(text) > _TEXT:
            raise BadArchiveError(f"{name:.200} in the archive has more than {_TEXT} bytes")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadArchiveError(f"{name:.200} in the archive is not JSON: {error}") from error

    def _has(self, name: str) -> bool:
        try:
            with self._opened(name):
                return True
        except BadArchiveError:
            return False

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            file = self._file(name)
        except (OSError, KeyError, RecursionError) as error:
            raise BadArchiveError(f"{name:.200} is missing in the archive") from error
        if file is None:
            raise BadArchiveError(f"{name:.200} in the archive is not a file")
        with file:
            yield file

    def _file(self, name: str) -> IO[bytes] | None:
        if self._directory is not None:
            return os.fdopen(open_beneath(self._directory, name), "rb")
        assert self._tar
        return self._tar.extractfile(name)


def _blob(descriptor: Any) -> str:
    """Return the name of a descriptor's blob in an OCI layout."""
    digest = _text(descriptor, "digest")
    if not is_digest(digest):
        raise BadArchiveError(f"{digest!r:.80} is not a SHA-256 digest")
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _member(found: Any, name: str) -> Any:
    if not isinstance(found, Mapping) or name not in found:
        raise BadArchiveError(f"the archive's JSON lacks {name!r}")
    return found[name]


def _text(found: Any, name: str) -> str:
    value = _member(found, name)
    if not isinstance(value, str):
        raise BadArchiveError(f"{name!r} in the archive's JSON is not a text")
    return value


def _listed(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise BadArchiveError("the archive's JSON has no list where one must be")
    return found


def _texts(found: Any, name: str) -> list[str]:
    values = _listed(_member(found, name))
    if not all(isinstance(one, str) for one in values):
        raise BadArchiveError(f"{name!r} in the archive's JSON is not a list of texts")
    return values
