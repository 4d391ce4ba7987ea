"""Tars that were right and then changed somewhere, with their checksums made right again.

They never escape, hang, or take more than 64 MiB, and what is wrong with them is said.
"""

from __future__ import annotations

import io
import os
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.pack import pack
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tree.walk import walk
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree
from tests.layer.conftest import remove
from tests.layer.hostile.ground import opened
from tests.layer.mutations import ENTRIES, MUTATIONS, Mutation, mutate
from tests.support.canary import SECRET, Canary
from tests.support.long import times

LONGEST = timedelta(seconds=30)
"""What any of them takes is milliseconds; longer than this is a loop."""


def peak() -> int:
    """The most memory that this process ever held, in bytes, since `forget_peak`."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


@settings(
    max_examples=times(gate=250, long=3000),
    deadline=LONGEST,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    layers=st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=2),
    mutations=MUTATIONS,
    cut=st.integers(0, 2000),
    form=st.sampled_from([PlainTree, UpperDirectory]),
)
def test_a_mutated_tar_never_escapes_and_fails_with_meaning(
    tmp_path: Path,
    layers: list[list[bytes]],
    mutations: list[Mutation],
    cut: int,
    form: type[Form],
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        canary = Canary.hatch(Path(folder, "canary"))
        root = Path(folder, "layer")
        root.mkdir()
        forget_peak()
        before = peak()
        with canary.unharmed(), opened(root) as fd:
            try:
                for entries in layers:
                    data = mutate(tars.tar(*entries), mutations)
                    if cut < len(data) and cut % 3 == 0:
                        data = data[:-cut]
                    unpack(io.BytesIO(data), fd, form=form)
                pack_what_is_not_large(fd)
            except GraphDriverError as error:
                assert str(error).isprintable()
        assert peak() - before < 64 << 20
        remove(root)
        assert os.listdir(folder) == ["canary"]
    assert os.listdir(tmp_path) == []


def pack_what_is_not_large(root: int) -> None:
    """Pack a tree, unless a few bytes of tar have made a hole of terabytes in it."""
    if sum(node.stat.st_size for node in walk(root)) < 1 << 24:
        stream = pack(root, None)
        data = b""
        while piece := stream.read(1 << 20):
            data += piece
        stream.close()
        for entry in TarReader(io.BytesIO(data)):
            assert b".." not in entry.name.split(b"/") and entry.name[:1] != b"/"
        assert SECRET not in data


@settings(max_examples=times(gate=300, long=4000), deadline=LONGEST)
@given(st.lists(st.one_of(ENTRIES, st.binary(max_size=600)), max_size=6), MUTATIONS)
def test_the_reader_gives_entries_or_says_that_the_tar_is_bad(
    entries: list[bytes], mutations: list[Mutation]
) -> None:
    data = mutate(tars.tar(*entries), mutations)
    reader = TarReader(io.BytesIO(data))
    try:
        for entry in reader:
            assert entry.size >= 0
            assert sum(map(len, reader.data())) == entry.stored <= len(data)
            if entry.sparse is not None:
                assert sum(length for _, length in entry.sparse) == entry.stored
    except BadArchiveError as error:
        assert str(error).isprintable()


@settings(max_examples=times(gate=120, long=1500))
@given(
    st.integers(0, (1 << 63) - 1),
    st.integers(-(1 << 62), 1 << 62),
    st.integers(0, 0xFFFFFFFE),
)
def test_numbers_are_read_as_they_were_written(size: int, time: int, id: int) -> None:
    block = tars.header(b"d", b"5", size=size, mtime=time, uid=id, gid=id)
    entry = next(iter(TarReader(io.BytesIO(block))))
    assert (entry.mtime_ns, entry.uid, entry.gid) == (time * 1_000_000_000, id, id)
