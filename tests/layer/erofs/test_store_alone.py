"""Layers that are stored before the layers below them are known, and settled when they are."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.erofs.record import Record
from graphdriver.layer.erofs.store import (
    NotHeldError,
    describe_root,
    index_again,
    store_alone,
    store_layer,
)
from graphdriver.layer.unpack import unpack
from tests.layer.erofs.test_same_as_unpacked import BASE, MAPS, MTIMES, TARS
from tests.support.long import times

pytestmark = pytest.mark.root

OPAQUE = tars.whiteout(b".wh..wh..opq")
ROOTS = st.one_of(
    st.just(b""),
    st.builds(
        lambda mode, time, records: (
            tars.pax([(b"mtime", time), *records]) + tars.directory(b".", mode, uid=7, gid=70_000)
        ),
        st.sampled_from([0o755, 0o4711, 0]),
        MTIMES,
        st.sampled_from([[], [], [], [(b"SCHILY.xattr.user.a", b"1")]]),
    ),
)
Below = Callable[[], contextlib.AbstractContextManager[Sequence[int]]]


@contextlib.contextmanager
def unpacked(tar: bytes) -> Iterator[Below]:
    """Unpack a tar; give what opens its root."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        root = os.open(path, os.O_RDONLY)
        try:
            unpack(io.BytesIO(tar), root)
            yield lambda: contextlib.nullcontext([root])
        finally:
            os.close(root)


@contextlib.contextmanager
def file(tar: bytes = b"") -> Iterator[int]:
    with tempfile.TemporaryFile(dir="/dev/shm") as made:
        made.write(tar)
        made.flush()
        yield made.fileno()


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def in_order(
    tar: bytes, maps: tuple[IDMap, ...], below: Below, own: int | None
) -> tuple[Record, bytes] | None:
    """Store a tar on what is below; None if no image holds it."""
    with file() as fd:
        try:
            record = store_layer(
                io.BytesIO(tar), fd, uid_maps=maps, gid_maps=maps, below=below, tar_fd=own
            )
        except NotHeldError:
            return None
        return record, content(fd)


@settings(max_examples=times(gate=50, long=20_000))
@given(
    base=BASE,
    root=ROOTS,
    tar=st.one_of(TARS, TARS.map(lambda tar: OPAQUE + tar)),
    maps=st.sampled_from([(), MAPS]),
    is_own=st.booleans(),
)
def test_if_no_names_below_matter_the_index_is_the_same_byte_for_byte(
    base: bytes, root: bytes, tar: bytes, maps: tuple[IDMap, ...], is_own: bool
) -> None:
    with contextlib.ExitStack() as held:
        try:
            below = held.enter_context(unpacked(root + base))
        except GraphDriverError:
            return
        own = held.enter_context(file(tar)) if is_own else None
        fd = held.enter_context(file())
        try:
            record, names_matter = store_alone(
                io.BytesIO(tar), fd, uid_maps=maps, gid_maps=maps, tar_fd=own
            )
        except NotHeldError:
            return
        wanted = in_order(tar, maps, below, own)
        event(f"names matter: {names_matter}")
        if names_matter:
            return
        if not record.facts:
            assert (record, content(fd)) == wanted
            return
        before = content(fd)
        settled = describe_root(record, fd, below=below)
        event(f"settled: {bool(settled)}")
        if settled:
            assert (settled, content(fd)) == wanted
        else:
            assert content(fd) == before
            assert (index_again(record, fd, below=below, tar_fd=own), content(fd)) == wanted


COMPLETE = tars.tar(tars.directory(b"d", 0o700), tars.file(b"d/f", b"x" * 700), tars.file(b"g"))


@pytest.mark.parametrize(
    ("more", "matter"),
    [
        (b"", False),
        (OPAQUE, False),
        (tars.file(b"missing/f"), True),
        (tars.whiteout(b".wh.g"), True),
        (tars.hard_link(b"h", b"below"), True),
        (tars.hard_link(b"h", b"g"), True),  # the target comes later: at first it may be below
        (tars.file(b"g") + tars.hard_link(b"h", b"g"), False),
    ],
)
def test_names_matter_to_what_the_tar_does_not_describe(more: bytes, matter: bool) -> None:
    with file() as fd:
        try:
            _, names_matter = store_alone(io.BytesIO(more + COMPLETE), fd)
        except NotHeldError:  # the link has no target
            names_matter = True
        assert names_matter is matter


def test_what_is_no_index_any_more_is_left_alone() -> None:
    with file() as fd, unpacked(b"") as below:
        record, _ = store_alone(io.BytesIO(COMPLETE), fd)
        os.ftruncate(fd, 4096)
        os.pwrite(fd, bytes(4096), 0)
        assert describe_root(record, fd, below=below) is None
        assert content(fd) == bytes(4096)


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    with unpacked(b"") as below:
        path = tmp_path / "image"
        with open(path, "w+b") as made:
            record, _ = store_alone(io.BytesIO(COMPLETE), made.fileno())
        with (
            open(path, "rb") as read_only,
            pytest.raises(GraphDriverError, match=r"index cannot be changed: .*Bad file"),
        ):
            describe_root(record, read_only.fileno(), below=below)
