"""A layer's tar in any order, upon any parent: what is shown is what its entries say together."""

from __future__ import annotations

import itertools
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from tests.layer.conftest import Layer
from tests.layer.upon_parent import FORMS, UponParent
from tests.support.long import times

Tree = dict[str, "Tree | str"]
"""Names to folders, or to the text of files."""

NAMES = st.sampled_from(["a", "b", "c"])
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(NAMES, st.just(""), max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(inner, st.just("")), max_size=3),
    max_leaves=10,
)


def flat(tree: Tree, above: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each path, and whether it is a folder."""
    for name, node in tree.items():
        yield above + name, isinstance(node, dict)
        if isinstance(node, dict):
            yield from flat(node, f"{above}{name}/")


def folders_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def entry(path: str, is_folder: bool, layer: int) -> bytes:
    """An entry whose owner and time tell which layer it is of."""
    if is_folder:
        return tars.directory(path.encode() + b"/", 0o710, uid=layer, mtime=layer)
    return tars.file(path.encode(), f"{layer} {path}".encode(), uid=layer, mtime=layer)


class Made(NamedTuple):
    """A layer's tar, before it is one.

    Attributes:
        own: what it brings: paths, and whether they are folders; hard links aside.
        left_out: folders that no entry names, though something is in them.
        deleted: paths that whiteouts are for.
        opaque: folders with an opaque mark.
        links: hard links to files of its own.
    """

    own: dict[str, bool]
    left_out: set[str]
    deleted: set[str]
    opaque: set[str]
    links: dict[str, str]

    def entries(self) -> dict[str, bytes]:
        found = {
            path: entry(path, is_folder, 2)
            for path, is_folder in self.own.items()
            if path not in self.left_out
        }
        for path in self.deleted:
            above, _, name = path.rpartition("/")
            whiteout = f"{above}/.wh.{name}".lstrip("/")
            found[whiteout] = tars.whiteout(whiteout.encode())
        for path in self.opaque:
            mark = f"{path}/.wh..wh..opq".lstrip("/")
            found[mark] = tars.whiteout(mark.encode())
            found[f"./{mark}"] = tars.whiteout(f"./{mark}".encode())  # a second one says no more
        # The second link to a file leads to the first: they wait for each other.
        former: dict[str, str] = {}
        for path, to in self.links.items():
            found[path] = tars.hard_link(path.encode(), former.get(to, to).encode())
            former[to] = path
        return found


@st.composite
def layers(draw: st.DrawFn, lower: Tree) -> Made:
    own = dict(flat(draw(TREES)))
    below = dict(flat(lower))
    folders = sorted(path for path, is_folder in own.items() if is_folder)
    nowhere = st.just(set[str]())
    deleted = draw(st.sets(st.sampled_from(sorted({*own, *below}))) if own | below else nowhere)
    full = [path for path in folders if any(other.startswith(path + "/") for other in own)]
    links = {}
    # A link is to what has the target's name when it comes, so the parent must have no such thing.
    files = [path for path, is_folder in own.items() if not is_folder and below.get(path, True)]
    for number in range(draw(st.integers(0, 3 if files else 0))):
        above = draw(st.sampled_from(["", *folders]))
        links[f"{above}/link{number}".lstrip("/")] = draw(st.sampled_from(files))
    return Made(
        own,
        draw(st.sets(st.sampled_from(full)) if full else nowhere),
        {path for path in deleted if all(own.get(above) for above in folders_above(path))},
        draw(st.sets(st.sampled_from(["", *folders]))),
        links,
    )


ANY = (True, None, None, None)
"""A folder whose owner and time nobody says."""


def expected(lower: Tree, made: Made) -> dict[str, tuple[object, ...]]:
    """Return what is to be seen, by the rules alone: path to type, owner, time and content."""
    own = made.own | dict.fromkeys(made.links, False)
    shown: dict[str, tuple[object, ...]] = {}
    gone = set()
    for path, is_folder in flat(lower):
        above = folders_above(path)
        if (
            not made.deleted.isdisjoint([path, *above])
            or not made.opaque.isdisjoint(["", *above])
            or any(own.get(each) is False for each in above)
            or own.get(path, is_folder) != is_folder
        ):
            gone.add(path)
        else:
            shown[path] = (is_folder, 1, 1, None if is_folder else f"1 {path}")
    for path, is_folder in own.items():
        if path in made.links:
            shown[path] = (False, 2, 2, f"2 {made.links[path]}")
        elif path not in made.left_out:
            shown[path] = (is_folder, 2, 2, None if is_folder else f"2 {path}")
        elif path in gone or path not in shown:
            shown[path] = ANY
    return shown


def seen(layer: Layer, but: set[str]) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in layer.root.rglob("*"):
        name = str(path.relative_to(layer.root))
        there = path.lstat()
        if name in but:
            found[name] = ANY
            continue
        is_folder = stat.S_ISDIR(there.st_mode)
        content = None if is_folder else path.read_text()
        found[name] = is_folder, there.st_uid, int(there.st_mtime), content
    return found


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=times(gate=150, long=2000))
@given(st.data(), TREES)
def test_the_order_of_a_tar_makes_no_difference(
    form: str, data: st.DataObject, lower: Tree
) -> None:
    made = data.draw(layers(lower))
    entries = made.entries()
    order = data.draw(st.permutations(list(entries)), "order")
    for what, some in zip(Made._fields, made, strict=True):
        event(f"{what}: {bool(some)}")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        stack = UponParent(Path(folder), form)
        stack.below(tars.tar(*[entry(path, is_folder, 1) for path, is_folder in flat(lower)]))
        stack.unpack(tars.tar(*[entries[name] for name in order]))
        wanted = expected(lower, made)
        with stack.shown() as shown:
            assert seen(shown, {path for path in wanted if wanted[path] is ANY}) == wanted
            for path, to in made.links.items():
                assert shown.stat(path).st_ino == shown.stat(to).st_ino


# --- twice ----------------------------------------------------------------------------------------

THINGS = {
    "file": [tars.file(b"x", b"a file", mode=0o640, uid=5, mtime=6)],
    "folder": [tars.directory(b"x/", 0o2750, uid=5, mtime=6), tars.file(b"x/in", b"inside")],
    "symlink": [tars.symlink(b"x", b"to/nowhere", uid=5, mtime=6)],
    "fifo": [tars.header(b"x", b"6", mode=0o600, uid=5, mtime=6)],
    "device": [tars.header(b"x", b"4", mode=0o600, uid=5, mtime=6, device=(7, 1))],
    "link": [tars.hard_link(b"x", b"target")],
    "early link": [tars.hard_link(b"x", b"comes-later")],
}
AROUND = [tars.file(b"target", b"the target")], [tars.file(b"comes-later", b"it came")]


@pytest.fixture(params=FORMS)
def stack(request: pytest.FixtureRequest) -> Iterator[UponParent]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield UponParent(Path(folder), request.param)


def facts(layer: Layer) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for name in layer.names():
        there = layer.stat(name)
        content: object = there.st_rdev
        if stat.S_ISREG(there.st_mode):
            content = layer.read(name)
        elif stat.S_ISLNK(there.st_mode):
            content = Path(layer.path(name).decode()).readlink()
        found[name] = (oct(there.st_mode), there.st_uid, there.st_mtime, content)
    return found


@pytest.mark.parametrize("where", ["below", "in the same tar"])
@pytest.mark.parametrize(("one", "other"), list(itertools.product(THINGS, THINGS)))
def test_the_later_of_two_things_of_a_name_is_there_as_if_it_were_alone(
    stack: UponParent, tmp_path: Path, where: str, one: str, other: str
) -> None:
    first, later = THINGS[one], THINGS[other]
    before, after = AROUND
    if where == "below":
        stack.below(tars.tar(*before, *first, *after))
        stack.unpack(tars.tar(*before, *later, *after))
    else:
        stack.unpack(tars.tar(*before, *first, *later, *after))
    (tmp_path / "alone").mkdir()
    alone = Layer(tmp_path / "alone")
    alone.unpack(tars.tar(*before, *later, *after))
    with stack.shown() as shown:
        assert facts(shown) == facts(alone)


def test_a_link_that_waits_hides_what_the_parent_has_of_its_name(stack: UponParent) -> None:
    stack.below(tars.tar(tars.file(b"h", b"below")))
    stack.unpack(
        tars.tar(tars.hard_link(b"h", b"a"), tars.hard_link(b"i", b"h"), tars.file(b"a", b"own"))
    )
    with stack.shown() as shown:
        assert [shown.read(name) for name in "ahi"] == [b"own"] * 3


def test_an_emptied_root_stays_so_though_a_link_that_waits_is_replaced(stack: UponParent) -> None:
    stack.below(tars.tar(tars.directory(b"h"), tars.file(b"h/below")))
    stack.unpack(
        tars.tar(
            tars.whiteout(b".wh..wh..opq"),
            tars.hard_link(b"h", b"a"),
            tars.directory(b"h"),
            tars.file(b"a"),
        )
    )
    with stack.shown() as shown:
        assert shown.names() == [b"a", b"h"]


@pytest.mark.parametrize("deletion", [b"d/.wh.e", b"d/.wh..wh..opq"])
def test_a_folder_that_was_made_anew_is_the_layers_own(stack: UponParent, deletion: bytes) -> None:
    stack.below(tars.tar(tars.directory(b"d"), tars.directory(b"d/e"), tars.file(b"d/e/f")))
    taken_for_granted = tars.whiteout(b"d/e/.wh.f")
    stack.unpack(tars.tar(*[taken_for_granted, tars.whiteout(deletion)] * 2))
    with stack.shown() as shown:
        assert shown.names() == [b"d", b"d/e"]
