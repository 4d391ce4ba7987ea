"""Storing a layer's tar in a file while it is read, unless it is in a file already.

Another thread computes the SHA-256 meanwhile: it takes as long as all the rest, and does not hold the
interpreter lock. Data go to the disk while the rest still comes, so that the sync at the end waits only
for the last of them.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

from graphdriver.driver import ReadStream
from graphdriver.layer.erofs.stored_tar import PieceSums, TarSums
from graphdriver.layer.write.inode import is_zeros, write_all
from graphdriver.linux.filesystem import start_writeback

_READ: Final = 1 << 20
"""How many bytes of the rest, which nobody parses, are read at a time."""

_BATCH: Final = 1 << 20
"""How many bytes are written, and given to the other thread, at a time."""

_AHEAD: Final = 4
"""How many batches may be written before they are hashed: they stay in memory."""

_WRITEBACK: Final = 8 << 20
"""How many bytes are written between two requests to bring them to the disk."""


class StoringStream:
    """A `graphdriver.driver.ReadStream` that stores what is read from it; a context manager.

    Args:
        archive: the tar.
        fd: the file, positioned where the tar begins; borrowed. None: nothing is stored.
    """

    def __init__(self, archive: ReadStream, fd: int | None) -> None:
        self._archive = archive
        self._fd = fd
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._size = 0
        self._start = 0 if fd is None else os.lseek(fd, 0, os.SEEK_CUR)
        self._requested = 0
        """How much of the tar is on its way to the disk."""
        self._pieces = PieceSums()
        self._sha256 = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "sha256")
        self._hashing: collections.deque[tuple[Future[None], bytearray]] = collections.deque()
        """The batches that the other thread has yet to hash, in their order."""
        self._free: list[bytearray] = []
        """Memory for batches: the kernel would have to clear new memory for each of them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def read(self, n: int, /) -> bytes:
        """Return 1 to ``n`` bytes, ``b""`` at the end; `finish` stores the last of them.

        Raises:
            BrokenStreamError: the sender broke off.
            OSError: they, or earlier ones, cannot be written.
        """
        piece = self._archive.read(min(n, _BATCH - self._batch_size))
        self._batch.append(piece)
        self._batch_size += len(piece)
        if self._batch_size == _BATCH:
            memory, batch = self._take_batch()
            self._hash(memory, batch)
            self._write(batch)
        return piece

    def finish(self) -> TarSums:
        """Store the rest; return the checksums of the whole tar.

        Raises:
            BrokenStreamError: the sender broke off.
            OSError: the rest cannot be written.
        """
        while self.read(_READ):
            pass
        while self._hashing:
            self._hashed()
        # Not by the thread, which is not even started for a tar of one batch.
        _, batch = self._take_batch()
        self._sha256.update(batch)
        self._write(batch)
        return TarSums(self._size, self._sha256.digest(), self._pieces.sums())

    def _hash(self, memory: bytearray, batch: memoryview) -> None:
        """Let the other thread hash a batch; do it here if there cannot be another thread."""
        if self._thread is None:
            self._sha256.update(batch)
            return
        if len(self._hashing) == _AHEAD:
            self._hashed()
        try:
            self._hashing.append((self._thread.submit(self._sha256.update, batch), memory))
        except (RuntimeError, MemoryError):
            if self._size:  # it has begun
                raise
            self._thread = None  # it keeps the batch, and never starts
            self._sha256.update(batch)

    def _hashed(self) -> None:
        """Wait until the first batch is hashed; it was written before, so its memory is free."""
        hashing, memory = self._hashing.popleft()
        hashing.result()
        self._free.append(memory)

    def _take_batch(self) -> tuple[bytearray, memoryview]:
        """Return memory, and the part of it that holds the next batch."""
        while self._hashing and self._hashing[0][0].done():
            self._hashed()
        # A copy, since hundreds of small writes would take longer.
        memory = self._free.pop() if self._free else bytearray(self._batch_size)
        batch = memoryview(memory)[: self._batch_size]
        at = 0
        for piece in self._batch:
            batch[at : at + len(piece)] = piece
            at += len(piece)
        self._batch, self._batch_size = [], 0
        return memory, batch

    def _write(self, batch: memoryview) -> None:
        self._pieces.add(batch)
        self._size += len(batch)
        if self._fd is None:
            return
        if batch and is_zeros(batch):
            # A hole: a compressed layer of a megabyte may have a gigabyte of zeros.
            os.ftruncate(self._fd, os.lseek(self._fd, len(batch), os.SEEK_CUR))
        else:
            write_all(self._fd, batch)
        if (more := self._size - self._requested) >= _WRITEBACK:
            # Only a request: the sync at the end reports an error of the disk.
            with contextlib.suppress(OSError):
                start_writeback(self._fd, self._start + self._requested, more)
            self._requested = self._size
