"""An upper folder read without a mount, held beside what the mounted trees show."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.conformance.plugin import tars
from graphdriver.driver import ChangeKind
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.overlay.whiteout import FUSE
from graphdriver.layer.tree.tree_copy import copy_tree
from graphdriver.layer.unpack import unpack
from graphdriver.linux import xattr
from tests.layer.listed import changes, upper_changes
from tests.support.long import times
from tests.support.overlays import EDITS, Edit, mounted_overlay, opened

ADDED, MODIFIED, DELETED = ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED


class Stack:
    """Layers upon each other, each with an upper folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layers: list[Path] = []

    def add(self, edits: list[Edit]) -> None:
        """Add a layer by changing what the mount shows."""
        upper = self.empty()
        if not self.layers:
            for edit in edits:
                edit.do(upper)
        else:
            with mounted_overlay(self.folder, self.layers, upper) as merged:
                for edit in edits:
                    edit.do(merged)
        self.layers.insert(0, upper)

    def empty(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def recorded(self, layers: list[Path] | None = None) -> dict[bytes, Facts]:
        with mounted_overlay(self.folder, self.layers if layers is None else layers) as merged:
            return record(str(merged))


@pytest.fixture
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder:
        yield Stack(Path(folder))


def read(packer: UpperPacker) -> bytes:
    try:
        return b"".join(iter(lambda: packer.read(1 << 20), b""))
    finally:
        packer.close()


RANDOM = settings(
    max_examples=times(gate=50, long=600),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@RANDOM
@given(one=EDITS, two=EDITS, three=EDITS)
def test_its_changes_are_those_of_the_mounted_trees(
    stack: Stack, one: list[Edit], two: list[Edit], three: list[Edit]
) -> None:
    stack.layers.clear()
    for edits in (one, two, three):
        stack.add(edits)
    upper, *lowers = stack.layers
    with (
        opened(upper, *lowers) as (upper_fd, *lower_fds),
        mounted_overlay(stack.folder, stack.layers) as above,
        mounted_overlay(stack.folder, lowers) as below,
        opened(above, below) as (above_fd, below_fd),
    ):
        assert upper_changes(upper_fd, lower_fds) == changes(above_fd, below_fd)


@RANDOM
@given(one=EDITS, two=EDITS)
def test_its_tar_brings_the_same_tree_again(stack: Stack, one: list[Edit], two: list[Edit]) -> None:
    stack.layers.clear()
    stack.add(one)
    stack.add(two)
    upper, lower = stack.layers
    again = stack.empty()
    with opened(upper, lower, again) as (upper_fd, lower_fd, again_fd):
        tar = read(UpperPacker(upper_fd))
        unpack(io.BytesIO(tar), again_fd, form=lambda fd: UpperDirectory(fd, [lower_fd]))
        assert read(UpperPacker(again_fd)) == tar
    assert stack.recorded([again, lower]) == stack.recorded()


def test_marks_are_whiteouts_and_opaque_entries_in_its_tar(stack: Stack) -> None:
    stack.add([Edit("mkdir", "a", "", 0), Edit("write", "a/b", "", 1), Edit("write", "c", "", 1)])
    stack.add(
        [Edit("replace", "a", "", 0), Edit("write", "a/a", "", 1), Edit("remove", "c", "", 0)]
    )
    with opened(stack.layers[0]) as (upper_fd,):
        tar = read(UpperPacker(upper_fd))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert archive.getnames() == ["a", "a/.wh..wh..opq", "a/a", ".wh.c"]
        assert {one.mtime for one in archive if "/.wh" in "/" + one.name} == {0}


def test_marks_that_are_not_exact_are_in_its_tar_where_something_is_below(stack: Stack) -> None:
    stack.add(
        [
            Edit("write", "a", "", 0),
            Edit("mkdir", "b", "", 0),
            Edit("write", "b/a", "", 0),
            Edit("mkdir", "b/b", "", 0),
            Edit("write", "c", "", 0),
        ]
    )
    upper = stack.empty()
    stack.layers.insert(0, upper)
    for folder in ("a", "a/b", "b", "b/b", "b/c", "d"):
        (upper / folder).mkdir()
    for folder in ("a", "a/b", "b/b", "b/c", "d"):
        os.setxattr(upper / folder, "trusted.overlay.opaque", b"y")
    for name in ("a/a", "b/a", "b/d", "c", "d/a", "e"):
        os.mknod(upper / name, stat.S_IFCHR, 0)
    with opened(*stack.layers) as (upper_fd, lower_fd):
        lowers = contextlib.nullcontext([lower_fd])
        tar = read(UpperPacker(upper_fd, marks=FUSE, open_lowers=lambda: lowers))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        found = sorted(archive.getnames())
    folders = ["a", "a/b", "b", "b/b", "b/c", "d"]
    assert found == sorted([*folders, ".wh.c", "b/.wh.a", "b/b/.wh..wh..opq"])


def test_what_was_only_copied_up_is_no_change(stack: Stack) -> None:
    stack.add([Edit("mkdir", "a", "", 0), Edit("write", "a/b", "", 1), Edit("write", "c", "", 1)])
    stack.add([Edit("open", "a/b", "", 0), Edit("write", "a/a", "", 1)])
    upper, lower = stack.layers
    assert sorted(os.listdir(upper / "a")) == ["a", "b"]
    with opened(upper, lower) as (upper_fd, lower_fd):
        found = [(one.path, one.kind) for one in upper_changes(upper_fd, [lower_fd])]
    assert found == [("/a", MODIFIED), ("/a/a", ADDED)]


def test_a_whiteout_of_nothing_is_no_change(stack: Stack) -> None:
    stack.add([])
    stack.layers.insert(0, stack.empty())
    os.mknod(stack.layers[0] / "a", stat.S_IFCHR, 0)
    with opened(*stack.layers) as (upper_fd, lower_fd):
        assert upper_changes(upper_fd, [lower_fd]) == []


def test_a_mark_of_its_own_never_leaves(stack: Stack) -> None:
    stack.add([Edit("mkdir", "a", "", 0)])
    os.setxattr(stack.layers[0] / "a", "trusted.overlay.origin", b"x")
    with opened(stack.layers[0]) as (upper_fd,):
        assert b"overlay" not in read(UpperPacker(upper_fd))


# --- what the layers below show, and a tar takes for granted --------------------------------------


def below(stack: Stack) -> None:
    """A layer with a folder that nobody else may enter, a link, and a file with two names."""
    lower = stack.empty()
    (lower / "closed").mkdir(mode=0o700)
    os.chown(lower / "closed", 7, 8)
    os.setxattr(lower / "closed", "user.note", b"kept")
    (lower / "closed" / "file").write_text("below")
    os.chmod(lower / "closed" / "file", 0o4750)
    os.link(lower / "closed" / "file", lower / "closed" / "other")
    (lower / "link").symlink_to("/closed/")
    os.utime(lower / "closed", ns=(1_500_000_000, 2_500_000_001))
    stack.layers.insert(0, lower)


def apply(stack: Stack, *entries: bytes) -> Path:
    upper = stack.empty()
    with opened(upper, *stack.layers) as (upper_fd, *lower_fds):
        unpack(
            io.BytesIO(tars.tar(*entries)), upper_fd, form=lambda fd: UpperDirectory(fd, lower_fds)
        )
    stack.layers.insert(0, upper)
    return upper


def test_a_folder_that_entries_are_made_in_stays_what_it_was_below(stack: Stack) -> None:
    below(stack)
    before = stack.recorded()
    apply(stack, tars.file(b"closed/new", b"new"))
    after = stack.recorded()
    assert after.pop(b"closed/new")
    assert after == before


def test_an_opaque_mark_in_the_root_hides_all_below_though_the_kernel_merges_every_root(
    stack: Stack,
) -> None:
    below(stack)
    mark = tars.whiteout(b".wh..wh..opq")
    upper = apply(stack, tars.file(b"new"), mark, tars.file(b"closed/file", b"own"), mark)
    with mounted_overlay(stack.folder, stack.layers) as merged:
        assert sorted(path.name for path in merged.rglob("*")) == ["closed", "file", "new"]
        assert (merged / "closed" / "file").read_text() == "own"
    with opened(*stack.layers) as (upper_fd, lower_fd):
        found = [(one.path, one.kind) for one in upper_changes(upper_fd, [lower_fd])]
        with tarfile.open(fileobj=io.BytesIO(read(UpperPacker(upper_fd)))) as archive:
            names = archive.getnames()
    assert (upper / "link").is_char_device()
    assert (("/link", DELETED) in found, ("/closed/other", DELETED) in found) == (True, True)
    assert [name for name in names if ".wh." in name] == [".wh..wh..opq", "closed/.wh..wh..opq"]


def test_a_link_below_is_followed_and_not_replaced(stack: Stack) -> None:
    below(stack)
    before = stack.recorded()
    apply(stack, tars.file(b"link/new", b"new"))
    after = stack.recorded()
    assert after.pop(b"closed/new")
    assert after == before


def test_a_hard_link_into_the_layers_below_is_one_file_with_its_target(stack: Stack) -> None:
    below(stack)
    apply(stack, tars.hard_link(b"new", b"/closed/file"))
    with mounted_overlay(stack.folder, stack.layers) as merged:
        linked, target = os.stat(merged / "new"), os.stat(merged / "closed/file")
        assert linked.st_ino == target.st_ino
        assert stat.S_IMODE(linked.st_mode) == 0o4750
        assert (merged / "new").read_text() == "below"
        assert os.getxattr(merged / "closed", "user.note") == b"kept"


@pytest.mark.parametrize(
    "hiding",
    [
        (tars.whiteout(b"closed/.wh.file"),),
        (tars.whiteout(b"closed/.wh..wh..opq"),),
        (tars.whiteout(b".wh.closed"),),
        (tars.whiteout(b".wh.closed"), tars.directory(b"closed")),
    ],
    ids=["its whiteout", "an opaque folder", "a folder's whiteout", "a new folder"],
)
def test_a_target_that_the_layer_hides_is_not_there(
    stack: Stack, hiding: tuple[bytes, ...]
) -> None:
    below(stack)
    with pytest.raises(Exception, match="is not there"):
        apply(stack, *hiding, tars.hard_link(b"new", b"closed/file"))


@pytest.mark.parametrize("name", [b"closed/.wh.file", b"closed/.wh..wh..opq", b".wh.closed"])
def test_a_target_that_was_brought_up_goes_when_it_is_deleted(stack: Stack, name: bytes) -> None:
    below(stack)
    apply(stack, tars.hard_link(b"new", b"closed/file"), tars.whiteout(name))
    shown = stack.recorded()
    assert b"closed/file" not in shown
    assert b"new" in shown


def test_what_an_entry_names_itself_is_no_longer_theirs(stack: Stack) -> None:
    below(stack)
    apply(
        stack,
        tars.hard_link(b"new", b"closed/file"),
        tars.file(b"closed/file", b"own"),
        tars.whiteout(b"closed/.wh.file"),
    )
    with mounted_overlay(stack.folder, stack.layers) as merged:
        assert (merged / "closed/file").read_text() == "own"
        assert (merged / "new").read_text() == "below"


def test_a_deleted_name_may_be_that_of_a_link_that_waits(stack: Stack) -> None:
    below(stack)
    apply(
        stack,
        tars.hard_link(b"closed/other", b"late"),
        tars.whiteout(b"closed/.wh.other"),
        tars.file(b"late", b"late"),
    )
    with mounted_overlay(stack.folder, stack.layers) as merged:
        assert (merged / "closed/other").read_text() == "late"


# --- the same tar into both forms -----------------------------------------------------------------

PATHS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)
ENTRIES = st.lists(
    st.one_of(
        st.builds(tars.file, PATHS, st.sampled_from([b"1", b"22"])),
        st.builds(tars.directory, PATHS, st.sampled_from([0o755, 0o700])),
        st.builds(tars.symlink, PATHS, PATHS.map(lambda path: b"/" + path)),
        st.builds(tars.hard_link, PATHS, PATHS),
        PATHS.map(lambda path: tars.whiteout(_with_prefix(path, b".wh."))),
        PATHS.map(lambda path: tars.whiteout(path + b"/.wh..wh..opq")),
    ),
    min_size=1,
    max_size=6,
)


def _with_prefix(path: bytes, prefix: bytes) -> bytes:
    above, slash, name = path.rpartition(b"/")
    return above + slash + prefix + name


# What is brought up parts from its other names, as in a copy by the kernel (without its index).
SINGLE = EDITS.map(lambda edits: [edit for edit in edits if edit.what != "link"])


@RANDOM
@given(one=SINGLE, two=SINGLE, entries=ENTRIES)
def test_a_tar_makes_of_an_upper_folder_what_it_makes_of_a_copy(
    stack: Stack, one: list[Edit], two: list[Edit], entries: list[bytes]
) -> None:
    stack.layers.clear()
    stack.add(one)
    stack.add(two)
    plain = stack.empty()
    with (
        mounted_overlay(stack.folder, stack.layers) as merged,
        opened(merged, plain) as (merged_fd, plain_fd),
    ):
        copy_tree(merged_fd, plain_fd)
        began = time.time_ns() - 20_000_000  # files are stamped by a coarser clock
        try:
            unpack(io.BytesIO(tars.tar(*entries)), plain_fd)
        except GraphDriverError as error:
            event("refused")
            with pytest.raises(type(error)):
                apply(stack, *entries)
            return
    event("applied")
    apply(stack, *entries)
    assert _without_new_times(stack.recorded(), began) == _without_new_times(
        stack.recorded([plain]), began
    )


def _without_new_times(found: dict[bytes, Facts], began: int) -> dict[bytes, Facts]:
    """Leave out the times of folders that were made because they were missing."""
    return {
        path: facts._replace(mtime_ns=min(facts.mtime_ns, began)) for path, facts in found.items()
    }


def test_what_is_taken_for_granted_of_the_layers_below_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.layer.overlay.form.MOST_NAMES_SIZE", 2000)
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for folder in (upper, lower):
        folder.mkdir()
    for number in range(30):
        (lower / f"d{number}").mkdir()
    tar = tars.tar(*[tars.file(b"d%d/f" % number) for number in range(30)])
    fds = [os.open(folder, os.O_RDONLY) for folder in (upper, lower)]
    try:
        with pytest.raises(BadArchiveError, match="copied up"):
            unpack(io.BytesIO(tar), fds[0], form=lambda root: UpperDirectory(root, fds[1:]))
    finally:
        for fd in fds:
            os.close(fd)


def test_a_directory_that_is_removed_while_it_is_packed_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "upper/gone").mkdir(parents=True)
    (tmp_path / "upper/stays").mkdir()
    real = xattr.get_at

    def removed_first(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
        if name == b"gone":
            os.rmdir(name, dir_fd=dir_fd)
        return real(dir_fd, name, attribute)

    monkeypatch.setattr(xattr, "get_at", removed_first)
    with opened(tmp_path / "upper") as (upper,):
        tar = read(UpperPacker(upper))
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        assert "stays" in found.getnames()
