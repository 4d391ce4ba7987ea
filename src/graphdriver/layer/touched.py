"""What a driver may know of two trees, of which one began as the other: where they can differ at all.

On a filesystem that tells what was changed since a snapshot was made, two trees need not be walked
through to be compared. A snapshot keeps the numbers of inodes: what has the same number in both trees
was one file or folder, and is the same yet unless it was touched in either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Touched:
    """Where two trees can differ.

    Attributes:
        upper_device: what stat(2) tells of the upper tree, as ``st_dev``; elsewhere nothing is known.
        lower_device: likewise of the lower one.
        inodes: the numbers of those that were touched, in either tree: content, attributes or, of a
            folder, names in it.
        names: for the number of each folder, the names in it behind which there are touched ones.
    """

    upper_device: int
    lower_device: int
    inodes: AbstractSet[int]
    names: Mapping[int, AbstractSet[bytes]]

    def were_one(self, above: os.stat_result, below: os.stat_result) -> bool:
        """Tell whether two inodes, of the upper and the lower tree, were one when it was cloned."""
        return (
            above.st_ino == below.st_ino
            and above.st_dev == self.upper_device
            and below.st_dev == self.lower_device
        )

    def names_in(self, folder: int) -> Sequence[bytes] | None:
        """Return the names that can differ in a folder that was one, by its number; None: any."""
        return None if folder in self.inodes else sorted(self.names.get(folder, ()))
