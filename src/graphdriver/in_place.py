"""The ability to read layers' tars where they are: in a store of the site, and not in the home.

The driver makes what the kernel parses itself, in the home. Files' data are read from the store each
time that somebody reads them. So the site must trust the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image with a layer's tar, which other machines use too and nobody changes.

    Attributes:
        directory: the store: an absolute path.
        name: the image's path below it; no link is followed there.
        record: the text of its record, as `graphdriver.layer.erofs.record.parse` takes it.
        headers: the tar's headers, as the store says them and
            `graphdriver.layer.erofs.tar_headers.inflated` returned them; ``b""``: they are in the tar.
    """

    directory: str
    name: str
    record: str
    headers: bytes = b""


@dataclass(frozen=True, slots=True)
class TarInPlace:
    """A layer whose tar is in a store.

    Attributes:
        id: the layer.
        image: the image with the tar.
        is_proved: whether all bytes of the tar were read and have the layer's SHA-256.
        wrong: what is wrong with them, in one sentence without a full stop that names store and image;
            ``""``: nothing is known.
        headers: the SHA-256 of `SharedImage.headers` from which the index was made, in hexadecimal
            digits; ``""``: it was made from the tar.
    """

    id: str
    image: SharedImage
    is_proved: bool
    wrong: str
    headers: str


class ReadsInPlace(Protocol):
    """A driver that can read the tar of a layer in a store."""

    def apply_in_place(self, id: str, parent: str, image: SharedImage) -> int:
        """Fill the new layer ``id`` with a tar that stays in a store; as `Driver.apply_diff`.

        Only the tar's headers are read, or taken from ``image``. Neither they nor the tar are proved,
        until `judge_tar` says so.

        Raises:
            UnsupportedError: the layer cannot be shown so; it is incomplete, and can only be removed.
            GraphDriverError: the store cannot be read; likewise.
        """
        ...

    def leave_in_place(self, id: str, image: SharedImage) -> None:
        """Give up the home's copy of a layer's tar for one in a store, whose bytes are proved.

        The headers are read from the tar. A kill leaves one or the other. Whoever has the layer
        mounted keeps the copy until the unmount.

        Raises:
            UnsupportedError: the layer has no such copy, or the image has another tar; it is unchanged.
            OSError: it cannot be written; it is unchanged.
        """
        ...

    def tars_in_place(self, *, strictly: bool = False) -> Iterator[TarInPlace]:
        """Yield the layers whose tars are in a store.

        Args:
            strictly: whether a layer of which that cannot be told is an error, and not left out.

        Raises:
            GraphDriverError: the files of a layer are damaged, or it is being removed.
            OSError: they cannot be read now.
        """
        ...

    def judge_tar(self, id: str, wrong: str) -> None:
        """Note that a tar in a store was read: it is proved, or something is wrong with it.

        A layer with a wrong tar counts as damaged: it is not mounted any more, nor is a layer on it.

        Args:
            id: the layer; nothing is done if it is gone, or has its tar in the home.
            wrong: as for `TarInPlace`; ``""``: the tar is proved.

        Raises:
            OSError: it cannot be noted.
        """
        ...
