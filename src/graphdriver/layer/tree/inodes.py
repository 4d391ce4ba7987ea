"""A set of inode numbers that stays small when there are a million of them."""

from __future__ import annotations

_BITS = 8
_MASK = (1 << _BITS) - 1


class InodeSet:
    """Inode numbers, as bits of words: filesystems give them out close together."""

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def add(self, inode: int) -> None:
        """Put one in."""
        word = inode >> _BITS
        self._words[word] = self._words.get(word, 0) | 1 << (inode & _MASK)

    def __contains__(self, inode: int) -> bool:
        return bool(self._words.get(inode >> _BITS, 0) >> (inode & _MASK) & 1)
