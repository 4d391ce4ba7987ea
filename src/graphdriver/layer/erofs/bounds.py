"""The bounds of an image: a layer beyond them is unpacked.

The memory of a tree is counted by constants, not measured: whether an image holds a layer must depend
on the layer alone.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 52 << 20
"""The limit of memory for one tree, in bytes, by the costs below."""

NAME: Final = 96
"""The cost of a name, in addition to its bytes."""
INODE: Final = 176
"""The cost of an inode."""
PACKED: Final = 80
"""The cost of a file in its small form (`graphdriver.layer.erofs.tree.packed_file`)."""
DIRECTORY: Final = 320
"""The cost of a directory."""
ITEM: Final = 128
"""The cost of anything else that is kept: an attribute, an extent, a name in a list."""

MOST_STEPS: Final = 2_000_000
"""The limit of steps that are not bounded by the size of the tar: through links, and for deletions."""

MOST_ON_DISK: Final = 64 << 20
"""The limit of disk space for lists of holes and for the padding of chunks, in bytes, in addition to
1 % of the data: a small tar may describe many large files."""


class CannotHoldError(Exception):
    """An image cannot hold the layer, or may differ from what is unpacked; the text says why."""


class Budget:
    """The memory, the steps and the disk space that are left for one layer."""

    def __init__(self) -> None:
        self._memory = MOST
        self._steps = MOST_STEPS
        self._on_disk = MOST_ON_DISK

    def spend(self, memory: int) -> None:
        """Take some of the memory, in bytes.

        Raises:
            CannotHoldError: nothing is left.
        """
        self._memory -= memory
        if self._memory < 0:
            raise CannotHoldError("its index takes too much memory")

    def step(self, count: int = 1) -> None:
        """Take some of the steps.

        Raises:
            CannotHoldError: nothing is left.
        """
        self._steps -= count
        if self._steps < 0:
            raise CannotHoldError("its links and deletions take too many steps")

    def spend_on_disk(self, size: int, data: int) -> None:
        """Take some of the disk space.

        Args:
            size: what a sparse file takes besides its data, in bytes.
            data: how many bytes of data it has.

        Raises:
            CannotHoldError: nothing is left.
        """
        self._on_disk -= max(0, size - data // 100)
        if self._on_disk < 0:
            raise CannotHoldError("the lists of its holes take too much disk space")
