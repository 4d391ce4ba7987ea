"""What every driver must do: tests over a driver that the class that takes them up makes.

A class that extends `DriverSuite` gives the fixture ``make``; one whose answers come over a wire says
in `error_of` and `listed` what they become.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from graphdriver import Change, ChangeKind, Driver, IDMap
from graphdriver.conformance import tars
from graphdriver.conformance.tree import CAPABILITY, ODD_NAMES, Facts, build, record
from graphdriver.driver import mounted
from graphdriver.errors import GraphDriverError, LayerExistsError, LayerNotFoundError

LONG = 252

ADDED, MODIFIED, DELETED = ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED


class Make(Protocol):
    """Makes a driver that has taken up a new, empty home."""

    def __call__(self, *, maps: tuple[IDMap, ...] = ()) -> Driver: ...


def read_diff(driver: Driver, id: str, parent: str = "") -> bytes:
    """Return a whole diff."""
    stream = driver.diff(id, parent)
    try:
        pieces = []
        while piece := stream.read(100_000):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        stream.close()


def apply(driver: Driver, id: str, parent: str, data: bytes) -> int:
    """Create a layer and fill it."""
    driver.create(id, parent, "", {})
    return driver.apply_diff(id, parent, io.BytesIO(data))


def recorded(driver: Driver, id: str) -> dict[bytes, Facts]:
    """Record what a layer shows."""
    with mounted(driver, id) as root:
        return record(root)


def layer(driver: Driver, id: str, parent: str, fill: Callable[[Path], object]) -> None:
    """Make a layer by writing into its folder."""
    driver.create(id, parent, "", {})
    with mounted(driver, id) as root:
        fill(Path(root))


def edit(root: Path, *, all_of_it: bool = True) -> None:
    """Change what `build` made in each of the ways there are.

    Args:
        root: the layer's.
        all_of_it: devices and very long names too.
    """
    (root / "etc" / "passwd").unlink()
    shutil.rmtree(root / "deep")
    if all_of_it:
        shutil.rmtree(root / "devices")
        (root / "devices").write_text("a file where a folder was")
    (root / "link").unlink()
    (root / "link").mkdir()
    (root / "link" / "inside").write_text("a folder where a link was")
    if all_of_it:
        shutil.rmtree(root / "odd")
        (root / "odd").mkdir()
    else:
        for name in os.listdir(os.fsencode(root / "odd")):
            if len(name) < LONG:
                os.unlink(os.path.join(os.fsencode(root), b"odd", name))
    (root / "odd" / "new").write_text("a folder where a folder was")
    os.chmod(root / "tmp", 0o755)
    os.chown(root / "bin" / "wall", 7, 8)
    os.removexattr(root / "bin" / "ping", "security.capability")
    os.setxattr(root / "etc", "trusted.folder", b"no")
    (root / "hard" / "new").write_text("x")
    os.link(root / "hard" / "new", root / "hard" / "new2")


class DriverSuite:
    """The tests."""

    deletes_all = True
    """Whether devices and names of `LONG` bytes and more of a layer below can be deleted."""

    def edit(self, root: Path) -> None:
        edit(root, all_of_it=self.deletes_all)

    def error_of(self, error: type[GraphDriverError]) -> type[GraphDriverError]:
        return error

    def listed(self, path: bytes) -> str:
        """Return a path as `Driver.changes` gives it."""
        return "/" + os.fsdecode(path)

    @pytest.fixture
    def driver(self, make: Make) -> Driver:
        return make()

    # The life of a layer.

    def test_a_layer_is_there_from_create_to_remove(self, driver: Driver) -> None:
        assert not driver.exists("a")
        driver.create("a", "", "", {})
        assert driver.exists("a")
        driver.remove("a")
        assert not driver.exists("a")

    def test_a_new_layer_on_nothing_is_empty(self, driver: Driver) -> None:
        driver.create("a", "", "", {})
        assert recorded(driver, "a") == {}
        with mounted(driver, "a") as root:
            assert os.path.isabs(root)
            found = os.stat(root)
            assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o755, 0, 0)

    def test_removing_what_is_not_there_succeeds(self, driver: Driver) -> None:
        driver.remove("never")
        driver.create("a", "", "", {})
        driver.remove("a")
        driver.remove("a")

    def test_a_removed_layers_id_can_be_taken_again(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: (root / "old").touch())
        driver.remove("a")
        driver.create("a", "", "", {})
        assert recorded(driver, "a") == {}

    def test_a_layer_that_was_got_can_be_removed(self, driver: Driver) -> None:
        driver.create("a", "", "", {})
        driver.get("a", "")
        driver.remove("a")
        assert not driver.exists("a")

    def test_an_id_is_taken_once(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: (root / "kept").touch())
        with pytest.raises(self.error_of(LayerExistsError), match="exists"):
            driver.create("a", "", "", {})
        with pytest.raises(self.error_of(LayerExistsError), match="exists"):
            driver.create_read_write("a", "", "", {})
        assert list(recorded(driver, "a")) == [b"kept"]

    def test_a_parent_must_be_there(self, driver: Driver) -> None:
        with pytest.raises(self.error_of(LayerNotFoundError), match="parent nobody"):
            driver.create("a", "nobody", "", {})
        assert not driver.exists("a")
        driver.create("a", "", "", {})

    @pytest.mark.parametrize(
        "call",
        [
            lambda driver: driver.get("a", ""),
            lambda driver: driver.put("a"),
            lambda driver: driver.get_metadata("a"),
            lambda driver: driver.diff("a", ""),
            lambda driver: driver.changes("a", ""),
            lambda driver: driver.diff_size("a", ""),
            lambda driver: driver.apply_diff("a", "", io.BytesIO(bytes(1024))),
        ],
        ids=["get", "put", "get_metadata", "diff", "changes", "diff_size", "apply_diff"],
    )
    def test_a_layer_that_is_not_there_is_not_found(
        self, driver: Driver, call: Callable[[Driver], object]
    ) -> None:
        with pytest.raises(self.error_of(LayerNotFoundError), match=" not "):
            call(driver)
        assert not driver.exists("a")

    @pytest.mark.parametrize("method", ["diff", "changes", "diff_size"])
    def test_a_comparison_with_a_layer_that_is_not_there_is_refused(
        self, driver: Driver, method: str
    ) -> None:
        driver.create("a", "", "", {})
        with pytest.raises(self.error_of(LayerNotFoundError)):
            getattr(driver, method)("a", "nobody")

    def test_gets_nest_and_show_the_same(self, driver: Driver) -> None:
        driver.create("a", "", "", {})
        outer = driver.get("a", "")
        inner = driver.get("a", "")
        Path(inner, "file").write_text("x")
        driver.put("a")
        assert Path(outer, "file").read_text() == "x"
        driver.put("a")
        assert list(recorded(driver, "a")) == [b"file"]

    def test_status_and_metadata_are_text(self, driver: Driver) -> None:
        driver.create("a", "", "", {})
        assert all(isinstance(text, str) for pair in driver.status() for text in pair)
        metadata = driver.get_metadata("a")
        assert all(isinstance(text, str) for pair in metadata.items() for text in pair)

    # Parents and children.

    def test_a_child_shows_all_that_its_parent_shows(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        driver.create("b", "a", "", {})
        driver.create_read_write("c", "a", "", {})
        expected = recorded(driver, "a")
        assert len(expected) > 40
        assert recorded(driver, "b") == expected
        assert recorded(driver, "c") == expected

    def test_a_child_has_its_parents_root_folder(self, driver: Driver) -> None:
        def dress(root: Path) -> None:
            os.chown(root, 3, 4)
            os.chmod(root, 0o1700)
            os.setxattr(root, "trusted.root", b"yes")

        layer(driver, "a", "", dress)
        driver.create("b", "a", "", {})
        with mounted(driver, "b") as root:
            found = os.stat(root)
            assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1700, 3, 4)
            assert os.getxattr(root, "trusted.root") == b"yes"

    def test_siblings_and_parent_do_not_see_each_others_changes(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        before = recorded(driver, "a")
        driver.create("b", "a", "", {})
        layer(driver, "c", "a", self.edit)

        def append(root: Path) -> None:
            with open(root / "big", "r+b") as file:
                file.write(b"overwritten in place")

        layer(driver, "d", "a", append)
        assert recorded(driver, "a") == before
        assert recorded(driver, "b") == before
        assert recorded(driver, "c") != before
        driver.remove("c")
        assert recorded(driver, "a") == before

    def test_twenty_layers_stand_on_each_other(self, driver: Driver) -> None:
        parent = ""
        for number in range(20):

            def fill(root: Path, number: int = number) -> None:
                (root / f"f{number}").write_text(str(number))
                (root / "same").write_text(str(number))
                if number >= 5:
                    (root / f"f{number - 5}").unlink()

            layer(driver, f"l{number}", parent, fill)
            parent = f"l{number}"
        with mounted(driver, "l19") as root:
            assert sorted(os.listdir(root)) == ["f15", "f16", "f17", "f18", "f19", "same"]
            assert Path(root, "same").read_text() == "19"
        with mounted(driver, "l3") as root:
            assert Path(root, "same").read_text() == "3"
        assert list(driver.changes("l19", "l18")) == [
            Change("/f14", DELETED),
            Change("/f19", ADDED),
            Change("/same", MODIFIED),
        ]
        parent = ""
        for number in range(20):
            below = f"l{number - 1}" if number else ""
            apply(driver, f"m{number}", parent, read_diff(driver, f"l{number}", below))
            parent = f"m{number}"
        assert recorded(driver, "m19") == recorded(driver, "l19")

    def test_two_hundred_layers_stand_on_each_other(self, driver: Driver) -> None:
        parent = ""
        for number in range(200):
            entries = [tars.file(b"same", b"%d" % number), tars.file(b"f%d" % number, b"")]
            if number >= 5:
                entries.append(tars.whiteout(b".wh.f%d" % (number - 5)))
            assert apply(driver, f"l{number}", parent, tars.tar(*entries)) == len(str(number))
            parent = f"l{number}"
        with mounted(driver, "l199") as root:
            assert sorted(os.listdir(root)) == ["f195", "f196", "f197", "f198", "f199", "same"]
            assert Path(root, "same").read_text() == "199"
        expected = [Change("/f194", DELETED), Change("/f199", ADDED), Change("/same", MODIFIED)]
        assert list(driver.changes("l199", "l198")) == expected
        assert len(driver.changes("l199", "l0")) == 7
        apply(driver, "again", "l198", read_diff(driver, "l199", "l198"))
        assert recorded(driver, "again") == recorded(driver, "l199")

    # Diff and ApplyDiff.

    def test_a_whole_tree_survives_diff_and_apply(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        apply(driver, "b", "", read_diff(driver, "a"))
        expected, found = recorded(driver, "a"), recorded(driver, "b")
        assert {path for path in expected if path.startswith(b"odd/")} == {
            b"odd/" + name for name in ODD_NAMES
        }
        assert found == expected

    def test_changes_survive_diff_and_apply(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        layer(driver, "b", "a", self.edit)
        apply(driver, "c", "a", read_diff(driver, "b", "a"))
        assert recorded(driver, "c") == recorded(driver, "b")

    def test_the_same_layer_gives_the_same_bytes(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        layer(driver, "b", "a", self.edit)
        whole, changed = read_diff(driver, "a"), read_diff(driver, "b", "a")
        assert read_diff(driver, "a") == whole
        assert read_diff(driver, "b", "a") == changed
        apply(driver, "a2", "", whole)
        apply(driver, "b2", "a2", changed)
        assert read_diff(driver, "a2") == whole
        assert read_diff(driver, "b2", "a2") == changed

    def test_a_diff_against_an_ancestor_holds_all_since(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: (root / "one").touch())
        layer(driver, "b", "a", lambda root: (root / "two").touch())
        layer(driver, "c", "b", lambda root: (root / "three").touch())
        apply(driver, "d", "a", read_diff(driver, "c", "a"))
        assert recorded(driver, "d") == recorded(driver, "c")
        with tarfile.open(fileobj=io.BytesIO(read_diff(driver, "c", "a"))) as tar:
            assert tar.getnames() == ["three", "two"]

    def test_an_unchanged_layers_diff_is_an_empty_tar(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        driver.create("b", "a", "", {})
        assert list(driver.changes("b", "a")) == []
        assert driver.diff_size("b", "a") == 0
        assert not read_diff(driver, "b", "a").strip(b"\0")

    def test_an_empty_stream_is_an_empty_layer(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: (root / "one").touch())
        assert apply(driver, "b", "a", b"") == 0
        assert recorded(driver, "b") == recorded(driver, "a")

    def test_apply_returns_the_sum_of_the_sizes(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        data = read_diff(driver, "a")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            expected = sum(entry.size for entry in tar if entry.isreg())
        assert expected > 1_000_000
        assert apply(driver, "b", "", data) == expected

    def test_whiteouts_stand_for_what_was_deleted(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))

        def clear(root: Path) -> None:
            (root / "etc" / "passwd").unlink()
            shutil.rmtree(root / "deep")

        layer(driver, "b", "a", clear)
        with tarfile.open(fileobj=io.BytesIO(read_diff(driver, "b", "a"))) as tar:
            assert tar.getnames() == [".wh.deep", "etc", "etc/.wh.passwd"]

    def test_a_diff_can_be_left_unread(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        stream = driver.diff("a", "")
        stream.read(10)
        stream.close()
        assert read_diff(driver, "a")
        driver.remove("a")

    def test_a_damaged_tar_is_refused(self, driver: Driver) -> None:
        with pytest.raises(GraphDriverError):
            apply(driver, "a", "", b"no tar at all" * 100)
        driver.remove("a")
        assert not driver.exists("a")

    # Changes.

    def test_changes_are_listed_as_docker_lists_them(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        layer(driver, "b", "a", self.edit)
        odd = [
            Change(self.listed(b"odd/" + name), DELETED)
            for name in sorted(ODD_NAMES)
            if self.deletes_all or len(name) < LONG
        ]
        after = next(n for n, change in enumerate(odd) if change.path > "/odd/new")
        odd.insert(after, Change("/odd/new", ADDED))
        assert list(driver.changes("b", "a")) == [
            Change("/bin", MODIFIED),
            Change("/bin/ping", MODIFIED),
            Change("/bin/wall", MODIFIED),
            Change("/deep", DELETED),
            *[Change("/devices", MODIFIED)] * self.deletes_all,
            Change("/etc", MODIFIED),
            Change("/etc/passwd", DELETED),
            Change("/hard", MODIFIED),
            Change("/hard/new", ADDED),
            Change("/hard/new2", ADDED),
            Change("/link", MODIFIED),
            Change("/link/inside", ADDED),
            Change("/odd", MODIFIED),
            *odd,
            Change("/tmp", MODIFIED),
        ]

    def test_all_is_added_to_a_layer_on_nothing(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: build(str(root)))
        expected = [Change(self.listed(path), ADDED) for path in sorted(recorded(driver, "a"))]
        assert list(driver.changes("a", "")) == expected

    def test_a_change_that_size_and_time_do_not_show_is_found(self, driver: Driver) -> None:
        layer(driver, "a", "", lambda root: (root / "file").write_text("one"))

        def disguise(root: Path) -> None:
            before = os.stat(root / "file")
            (root / "file").write_text("two")
            os.utime(root / "file", ns=(before.st_atime_ns, before.st_mtime_ns))

        layer(driver, "b", "a", disguise)
        assert list(driver.changes("b", "a")) == [Change("/file", MODIFIED)]

    def test_diff_size_counts_each_changed_file_once_and_links_by_length(
        self, driver: Driver
    ) -> None:
        layer(driver, "a", "", lambda root: (root / "kept").write_bytes(bytes(100)))

        def fill(root: Path) -> None:
            (root / "new").write_bytes(bytes(2000))
            os.link(root / "new", root / "new2")
            (root / "folder").mkdir()
            (root / "link").symlink_to("a" * 50)

        layer(driver, "b", "a", fill)
        assert driver.diff_size("b", "a") == 2050
        assert driver.diff_size("b", "") == 2150

        def shorten(root: Path) -> None:
            (root / "new").write_bytes(bytes(7))
            (root / "kept").unlink()

        layer(driver, "c", "b", shorten)
        assert driver.diff_size("c", "b") == 7

    # Id maps.

    def test_owners_are_mapped_in_and_out(self, make: Make) -> None:
        maps = (IDMap(0, 100_000, 1000), IDMap(1000, 500_000, 1000))
        plain, mapped = make(), make(maps=maps)

        def fill(root: Path) -> None:
            for number in (0, 999, 1000, 1999):
                (root / str(number)).write_text(str(number))
                os.chown(root / str(number), number, 1999 - number)
            (root / "capable").touch()
            os.setxattr(root / "capable", "security.capability", CAPABILITY)

        layer(plain, "a", "", fill)
        data = read_diff(plain, "a")
        apply(mapped, "a", "", data)
        mapped.create("b", "a", "", {})
        for id in ("a", "b"):
            with mounted(mapped, id) as root:
                owners = {
                    name: (os.stat(os.path.join(root, name)).st_uid, os.stat(path).st_gid)
                    for name in ("0", "999", "1000", "1999")
                    for path in [os.path.join(root, name)]
                }
                assert os.stat(root).st_uid == 100_000
                # Revision 3 holds for the container's root alone.
                capability = os.getxattr(os.path.join(root, "capable"), "security.capability")
                assert int.from_bytes(capability[-4:], "little") == 100_000
            assert owners == {
                "0": (100_000, 500_999),
                "999": (100_999, 500_000),
                "1000": (500_000, 100_999),
                "1999": (500_999, 100_000),
            }
            assert read_diff(mapped, id) == data

    def test_a_new_layer_is_the_containers_roots(self, make: Make) -> None:
        driver = make(maps=(IDMap(0, 100_000, 65_536),))
        driver.create("a", "", "", {})
        with mounted(driver, "a") as root:
            assert (os.stat(root).st_uid, os.stat(root).st_gid) == (100_000, 100_000)
            # Whoever is root in the container must be able to pass down to it.
            assert os.stat(os.path.dirname(root)).st_gid == 100_000

    def test_an_owner_that_no_map_holds_is_refused(self, make: Make) -> None:
        plain, driver = make(), make(maps=(IDMap(0, 100_000, 10),))
        layer(plain, "a", "", lambda root: os.chown(root, 77, 0))
        with pytest.raises(GraphDriverError, match="77"):
            apply(driver, "a", "", read_diff(plain, "a"))
