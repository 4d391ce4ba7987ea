"""A layer of an image, wherever the image is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from graphdriver.driver import ReadStream
from graphdriver.shared.keys import Link


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer of an image.

    Attributes:
        link: its chain ID and its diff ID, as the image's configuration says.
        opened: opens its tar, uncompressed, for the length of a ``with`` block.
    """

    link: Link
    opened: Callable[[], AbstractContextManager[ReadStream]]
