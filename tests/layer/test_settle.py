"""A layer that was unpacked before its parent was known is, once settled, as if it had been known."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.overlay.parentless import ParentlessDirectory, parse
from graphdriver.layer.overlay.settle import settle
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.unpack import unpack
from tests.layer.conftest import remove
from tests.support.long import times
from tests.support.overlays import opened

pytestmark = pytest.mark.root

BASE = tars.tar(
    tars.directory(b"etc", 0o711, uid=3, gid=4, mtime=1000),
    tars.file(b"etc/hosts", b"below", uid=5, mtime=2000),
    tars.directory(b"usr", mtime=3000),
    tars.directory(b"usr/lib", 0o750, gid=9, mtime=4000),
    tars.directory(b"usr/lib/deep", 0o700, uid=8, mtime=5000),
    tars.file(b"usr/lib/libc", b"library", mtime=6000),
    tars.symlink(b"lib", b"usr/lib", mtime=7000),
    tars.symlink(b"to-file", b"etc/hosts"),
    tars.directory(b"srv", mtime=8000),
)


class TwoLayers:
    """A layer upon another one, unpacked before and after that one was known.

    Args:
        place: an existing directory.
        base: the lower layer's tar; None: there is no lower layer.
    """

    def __init__(self, place: Path, base: bytes | None) -> None:
        self.place = Path(tempfile.mkdtemp(dir=place))
        self._lowers: list[Path] = []
        self._began = time.time_ns() - 20_000_000  # files are stamped by a coarser clock
        if base is not None:
            self._lowers = [self.place / "lower"]
            self._lowers[0].mkdir()
            with opened(self._lowers[0]) as (fd,):
                unpack(io.BytesIO(base), fd, form=UpperDirectory)

    def in_order(self, tar: bytes) -> object:
        """Unpack the layer upon the lower one; return what a container and a Diff would see of it."""
        upper = self._new("in-order")
        with opened(upper) as (fd,), opened(*self._lowers) as lowers:
            unpack(io.BytesIO(tar), fd, form=partial(UpperDirectory, lowers=lowers))
        return self._seen(upper)

    def afterwards(self, tar: bytes) -> object:
        """Unpack the layer, and let it know the lower one afterwards."""
        upper = self._new("afterwards")
        with opened(upper) as (fd,):
            form = ParentlessDirectory(fd)
            unpack(io.BytesIO(tar), fd, form=lambda _: form)
        with opened(upper) as (fd,), opened(*self._lowers) as lowers:
            settle(fd, lowers, parse(form.unsettled.text()))
        return self._seen(upper)

    def _new(self, name: str) -> Path:
        upper = self.place / name
        upper.mkdir(0o755)
        return upper

    def _seen(self, upper: Path) -> dict[bytes, object]:
        root = {name: os.getxattr(upper, name) for name in os.listxattr(upper)}
        found = {path: self._timeless(facts) for path, facts in record(str(upper)).items()}
        return {b"": root, **found}

    def _timeless(self, facts: Facts) -> Facts:
        """Leave out the time of a directory that neither the tar nor the lower layer names."""
        return facts._replace(mtime_ns=0) if facts.mtime_ns > self._began else facts


LAYERS = {
    "directories that it does not name": [
        tars.file(b"etc/new"),
        tars.file(b"usr/lib/deep/er/new"),
        tars.file(b"nowhere/new"),
    ],
    "a directory that it names afterwards": [
        tars.file(b"etc/new"),
        tars.directory(b"etc", 0o700, mtime=9000),
    ],
    "files behind a link of the lower layer": [
        tars.file(b"lib/new", mtime=9000),
        tars.directory(b"lib/deep", 0o701, mtime=9000),
        tars.file(b"lib/other/new"),
        tars.hard_link(b"lib/again", b"lib/new"),
        tars.whiteout(b"lib/.wh.libc"),
    ],
    "the same directory, by a link and by itself": [
        tars.directory(b"usr/lib/deep", 0o700, uid=1, mtime=9000),
        tars.file(b"usr/lib/deep/one"),
        tars.file(b"lib/deep/two"),
        tars.file(b"lib/deep/er/two"),
    ],
    "a directory over a file of the lower layer": [tars.file(b"etc/hosts/new")],
    "a directory behind a link to a file": [tars.file(b"to-file/new")],
    "a hard link to a file of the lower layer": [
        tars.hard_link(b"etc/again", b"etc/hosts"),
        tars.hard_link(b"once", b"lib/libc"),
        tars.hard_link(b"twice", b"once"),
    ],
    "whiteouts": [
        tars.whiteout(b"etc/.wh.hosts"),
        tars.whiteout(b"nowhere/.wh.gone"),
        tars.whiteout(b".wh.srv"),
        tars.whiteout(b".wh.gone"),
        tars.file(b"nowhere/new"),
    ],
    "a whiteout of what it has as well": [
        tars.directory(b"usr", mtime=9000),
        tars.file(b"usr/new"),
        tars.whiteout(b".wh.usr"),
        tars.directory(b"new", mtime=9000),
        tars.directory(b"new/one", mtime=9000),
        tars.whiteout(b"new/.wh.one"),
    ],
    "opaque directories": [
        tars.directory(b"usr", mtime=9000),
        tars.whiteout(b"usr/.wh..wh..opq"),
        tars.file(b"usr/lib/new"),
        tars.whiteout(b"etc/.wh..wh..opq"),
        tars.file(b"etc/new"),
        tars.whiteout(b"usr/.wh.lib"),
    ],
    "an opaque root": [
        tars.whiteout(b".wh..wh..opq"),
        tars.file(b"etc/new"),
        tars.directory(b"usr", mtime=9000),
        tars.file(b"usr/lib/new"),
    ],
    "a file over a directory": [tars.file(b"srv"), tars.symlink(b"etc", b"usr")],
    "a link of its own to a directory of the lower layer": [
        tars.symlink(b"own", b"lib/deep"),
        tars.file(b"own/new"),
    ],
    "a device and a FIFO": [
        tars.header(b"etc/null", b"3", device=(1, 3)),
        tars.header(b"etc/none", b"3", device=(0, 0)),
        tars.header(b"etc/fifo", b"6"),
    ],
    "nothing": [],
}


@pytest.mark.parametrize("base", [BASE, tars.tar(), None], ids=["full", "empty", "none"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_settled_layer_is_as_if_its_parent_had_been_known(
    layer: Sequence[bytes], base: bytes | None, tmp_path: Path
) -> None:
    both = TwoLayers(tmp_path, base)
    tar = tars.tar(*layer)
    try:
        wanted = both.in_order(tar)
    except BadArchiveError as error:
        with pytest.raises(BadArchiveError) as caught:
            both.afterwards(tar)
        assert str(caught.value) == str(error)
    else:
        assert both.afterwards(tar) == wanted


def test_a_hard_link_to_nothing_is_refused_when_it_is_settled(tmp_path: Path) -> None:
    both = TwoLayers(tmp_path, BASE)
    with pytest.raises(BadArchiveError, match="'x' is a hard link to 'nothing'"):
        both.afterwards(tars.tar(tars.hard_link(b"x", b"nothing")))


def test_an_entry_that_is_there_twice_by_a_link_below_is_refused(tmp_path: Path) -> None:
    both = TwoLayers(tmp_path, BASE)
    tar = tars.tar(tars.file(b"usr/lib/new", b"1"), tars.file(b"lib/new", b"2"))
    with pytest.raises(BadArchiveError, match="'lib/new' is in the layer twice"):
        both.afterwards(tar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"directories":[1],"deletions":[],"opaque":[],"links":{},"describes_root":true}',
        '{"directories":[],"deletions":[],"opaque":[],"links":{"a":1},"describes_root":true}',
        '{"directories":[],"deletions":[],"opaque":[],"links":{},"describes_root":1}',
    ],
)
def test_damaged_notes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


NAMES = st.lists(st.sampled_from([b"a", b"b", b"l"]), max_size=2)


def described(path: bytes, kind: str, number: int) -> bytes:
    match kind:
        case "directory":
            return tars.directory(path, 0o700 | number, uid=number, mtime=1000 + number)
        case "file":
            return tars.file(path, b"%d" % number, mtime=1000 + number)
        case _:
            return tars.symlink(path, (b"a", b"/b", b"../a/b")[number], mtime=1000 + number)


DIRECTORIES = st.builds(
    lambda above, name: b"/".join([*above, name]), NAMES, st.sampled_from([b"a", b"b"])
)
BELOW = st.lists(
    st.builds(
        described,
        st.builds(
            lambda above, name: b"/".join([*above, name]),
            NAMES,
            st.sampled_from([b"a", b"b", b"c", b"d", b"l"]),
        ),
        st.sampled_from(["directory", "directory", "file", "link"]),
        st.integers(0, 2),
    ),
    max_size=6,
).map(lambda entries: tars.tar(*entries))


@st.composite
def layers(draw: st.DrawFn) -> bytes:
    """Return a layer as programs make it: opaque entries and whiteouts first, no name twice."""
    named = draw(st.sets(DIRECTORIES, max_size=3))
    paths = draw(st.lists(DIRECTORIES, max_size=3))
    entries = []
    for path in sorted(named):
        entries.append(described(path, "directory", draw(st.integers(0, 2))))
        if draw(st.integers(0, 3)) == 0:
            entries.append(tars.whiteout(path + b"/.wh..wh..opq"))
    for number, above in enumerate([b"", *paths]):
        start = above + b"/" if above else b""
        name = b"new%d" % number
        entries.append(tars.file(start + name, name, mtime=2000))
        match draw(st.sampled_from(["deletes", "links", "neither"])):
            case "deletes":
                entries.append(tars.whiteout(start + b".wh.d"))
            case "links":
                target = draw(st.sampled_from([start + name, b"c", b"a/c", b"l/c"]))
                entries.append(tars.hard_link(start + b"hard%d" % number, target))
    return tars.tar(*entries)


@settings(max_examples=times(gate=150, long=50_000))
@given(base=BELOW, layer=layers())
def test_so_is_any_layer_that_programs_make(
    tmp_path_factory: pytest.TempPathFactory, base: bytes, layer: bytes
) -> None:
    for tar in (base, layer):
        note("\n".join(map(str, TarReader(io.BytesIO(tar)))))
    place = tmp_path_factory.getbasetemp()
    try:
        both = TwoLayers(place, base)
    except GraphDriverError:
        return  # the lower layer is none
    try:
        try:
            wanted = both.in_order(layer)
        except GraphDriverError:
            event("refused")
            with pytest.raises(GraphDriverError):
                both.afterwards(layer)
        else:
            event("unpacked")
            assert both.afterwards(layer) == wanted
    finally:
        remove(both.place)
