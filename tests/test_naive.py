from __future__ import annotations

import contextlib
import copy
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from graphdriver import Change, ChangeKind, Driver, IDMap, NaiveDiffDriver, ProtoDriver
from graphdriver.abilities import (
    ChecksOptions,
    CountsGets,
    CountsUsage,
    FindsLeftovers,
    KeepsMounts,
    NamesMounts,
    ProbesHome,
    TellsTouched,
    TellsUntouched,
    Usage,
    WorksInBackground,
    ability,
)
from graphdriver.driver import mounted
from graphdriver.drivers.loading import load, make
from graphdriver.errors import (
    BadArchiveError,
    BrokenStreamError,
    LayerNotFoundError,
    UnsupportedError,
)


class Folders(ProtoDriver):
    """Five methods and no more; it counts what is got and not put, and what was ever got."""

    driver_name: ClassVar[str] = "folders"
    home_format: ClassVar[int] = 7

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.gets: list[str] = []
        self.calls: list[tuple[object, ...]] = []

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self.home = home

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        os.mkdir(self._path(id))

    def remove(self, id: str) -> None:
        self.calls.append(("remove", id))

    def get(self, id: str, mount_label: str) -> str:
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        self.gets.append(id)
        self.held[id] = self.held.get(id, 0) + 1
        return self._path(id)

    def put(self, id: str) -> None:
        assert self.held[id] > 0, f"{id} is put more often than it was got"
        self.held[id] -= 1

    def exists(self, id: str) -> bool:
        return os.path.isdir(self._path(id))

    def _path(self, id: str) -> str:
        return os.path.join(self.home, id)


class Able(Folders):
    """With abilities that only some drivers have, and answers of its own to what may be left out."""

    stamp: int | None = None

    def untouched_since(self, id: str, parent: str) -> int | None:
        self.calls.append(("untouched_since", id, parent))
        return self.stamp

    def usage(self, id: str) -> Usage:
        return Usage(1, 2)

    def is_leftover(self, id: str) -> bool:
        return True

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self.calls.append(("create_read_write", id, parent, mount_label, dict(storage_opt)))

    def status(self) -> Sequence[tuple[str, str]]:
        return (("Key", "value"),)

    def get_metadata(self, id: str) -> Mapping[str, str]:
        return {"Of": id}

    def cleanup(self) -> None:
        self.calls.append(("cleanup",))


class Broken:
    """A stream whose sender breaks off in the middle of a file."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def read(self, n: int, /) -> bytes:
        piece = self._left.read(n)
        if not piece:
            raise BrokenStreamError("the sender broke off")
        return piece


@pytest.fixture
def proto(tmp_path: Path) -> Able:
    able = Able()
    able.init(str(tmp_path), [], [], [])
    for id in ("a", "b", "new"):
        able.create(id, "", "", {})
        Path(tmp_path, id, "same").write_text("same")
    Path(tmp_path, "b", "file").write_bytes(bytes(range(256)) * 4000)
    return able


@pytest.fixture
def driver(proto: Able) -> NaiveDiffDriver:
    return NaiveDiffDriver(proto)


def whole(driver: Driver, id: str, parent: str) -> bytes:
    stream = driver.diff(id, parent)
    data = b""
    while piece := stream.read(1 << 20):
        data += piece
    stream.close()
    return data


def nothing_is_held(proto: Folders) -> bool:
    return bool(proto.gets) and not any(proto.held.values())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# What was got is put.


@pytest.mark.parametrize("parent", ["", "a"])
def test_a_comparison_puts_what_it_got(driver: NaiveDiffDriver, proto: Able, parent: str) -> None:
    before = open_files()
    driver.changes("b", parent)
    driver.diff_size("b", parent)
    assert set(proto.gets) == {"b", parent} - {""}
    assert nothing_is_held(proto)
    assert open_files() == before


def test_a_diff_holds_its_layer_until_it_is_closed_and_its_parent_not(
    driver: NaiveDiffDriver, proto: Able
) -> None:
    before = open_files()
    stream = driver.diff("b", "a")
    assert proto.held == {"a": 0, "b": 1}
    while stream.read(1 << 20):
        assert proto.held["b"] == 1
    assert proto.held["b"] == 1
    stream.close()
    assert nothing_is_held(proto)
    assert open_files() == before


def test_a_diff_that_is_not_read_to_its_end_is_put(driver: NaiveDiffDriver, proto: Able) -> None:
    before = open_files()
    for read in (0, 1):
        stream = driver.diff("b", "")
        for _ in range(read):
            stream.read(100)
        stream.close()
        assert nothing_is_held(proto)
    assert open_files() == before


def test_a_diff_that_fails_while_it_is_read_is_put(
    driver: NaiveDiffDriver, proto: Able, tmp_path: Path
) -> None:
    before = open_files()
    (tmp_path / "b" / ".wh.file").touch()
    stream = driver.diff("b", "a")
    with pytest.raises(UnsupportedError, match="whiteout"):
        while stream.read(1 << 20):
            pass
    stream.close()
    assert nothing_is_held(proto)
    assert open_files() == before


@pytest.mark.parametrize("method", ["diff", "changes", "diff_size"])
def test_a_parent_that_is_not_there_leaves_nothing_held(
    driver: NaiveDiffDriver, proto: Able, method: str
) -> None:
    before = open_files()
    with pytest.raises(LayerNotFoundError):
        getattr(driver, method)("b", "nobody")
    assert proto.gets == ["b"]
    assert nothing_is_held(proto)
    assert open_files() == before


def test_a_layer_that_is_not_there_is_not_put(driver: NaiveDiffDriver, proto: Able) -> None:
    with pytest.raises(LayerNotFoundError):
        driver.diff("nobody", "a")
    with pytest.raises(LayerNotFoundError):
        driver.apply_diff("nobody", "a", io.BytesIO())
    assert proto.held == {}


def test_a_folder_that_cannot_be_opened_is_put(
    driver: NaiveDiffDriver, proto: Able, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proto, "_path", lambda _: "/proc/self/no-such-folder")
    monkeypatch.setattr(proto, "exists", lambda _: True)
    for call in (driver.diff, driver.changes, driver.diff_size):
        with pytest.raises(FileNotFoundError):
            call("b", "a")
        assert nothing_is_held(proto)


def test_an_applied_layer_is_put(driver: NaiveDiffDriver, proto: Able, tmp_path: Path) -> None:
    data = whole(driver, "b", "")
    assert driver.apply_diff("new", "", io.BytesIO(data)) == 1_024_000 + len("same")
    assert nothing_is_held(proto)
    assert (tmp_path / "new" / "file").stat().st_size == 1_024_000


@pytest.mark.parametrize(
    ("cut", "error"),
    [
        (lambda data: Broken(data[:100_000]), BrokenStreamError),
        (lambda data: io.BytesIO(data[:100_000]), BadArchiveError),
        (lambda data: io.BytesIO(b"x" * 1024), BadArchiveError),
    ],
    ids=["broken off", "cut", "no tar"],
)
def test_a_layer_that_cannot_be_applied_is_put(
    driver: NaiveDiffDriver,
    proto: Able,
    cut: Callable[[bytes], io.BytesIO | Broken],
    error: type[Exception],
) -> None:
    data = whole(driver, "b", "a")
    before = open_files()
    with pytest.raises(error):
        driver.apply_diff("new", "", cut(data))
    assert nothing_is_held(proto)
    assert open_files() == before


def test_mounted_puts_when_its_block_fails(proto: Able) -> None:
    with pytest.raises(ZeroDivisionError), mounted(proto, "a"):
        raise ZeroDivisionError
    assert nothing_is_held(proto)


# The wrapped driver shows through.


def test_every_call_reaches_the_wrapped_driver(driver: NaiveDiffDriver, proto: Able) -> None:
    driver.create_read_write("c", "a", "label", {"key": "value"})
    driver.remove("c")
    driver.cleanup()
    assert proto.calls == [
        ("create_read_write", "c", "a", "label", {"key": "value"}),
        ("remove", "c"),
        ("cleanup",),
    ]
    assert driver.status() == (("Key", "value"),)
    assert driver.get_metadata("a") == {"Of": "a"}
    assert driver.exists("a") and not driver.exists("c")
    driver.get("a", "")
    driver.put("a")
    assert nothing_is_held(proto)


ABILITIES: list[Callable[..., object]] = [
    CountsGets,
    FindsLeftovers,
    NamesMounts,
    KeepsMounts,
    CountsUsage,
    TellsUntouched,
    TellsTouched,
    WorksInBackground,
    ProbesHome,
    ChecksOptions,
]


def test_an_ability_is_found_through_the_wrapper(driver: NaiveDiffDriver, proto: Able) -> None:
    for outer in (proto, driver, NaiveDiffDriver(driver)):
        found = ability(outer, CountsUsage)
        assert found is proto
        assert found.usage("a") == Usage(1, 2)
        assert ability(outer, FindsLeftovers) is None, "it has one method of two"


@pytest.mark.parametrize("wanted", ABILITIES)
def test_a_driver_without_an_ability_has_none(wanted: Callable[..., object]) -> None:
    assert ability(NaiveDiffDriver(Folders()), wanted) is None


@pytest.mark.parametrize("wanted", ABILITIES)
@pytest.mark.parametrize("value", [None, 0, {"a": 1}, Usage], ids=["None", "0", "dict", "class"])
def test_an_attribute_that_is_no_method_is_no_ability(
    wanted: Callable[..., object], value: object
) -> None:
    plain = Folders()
    for name in vars(wanted):
        if not name.startswith("_"):
            setattr(plain, name, value)
    assert ability(plain, wanted) is None
    assert ability(NaiveDiffDriver(plain), wanted) is None


def test_the_wrapper_decides_of_an_ability_that_it_names_itself(proto: Able) -> None:
    class Hides(NaiveDiffDriver):
        usage = None

    class Counts(NaiveDiffDriver):
        def usage(self, id: str) -> Usage:
            return Usage(7, 7)

    assert ability(Hides(proto), CountsUsage) is None
    counts = Counts(proto)
    assert ability(counts, CountsUsage) is counts


@pytest.mark.parametrize("name", ["overlay2", "erofs", "fuse-overlayfs", "btrfs", "vfs"])
def test_our_drivers_have_these_abilities(name: str) -> None:
    expected = {
        "overlay2": {CountsGets, FindsLeftovers, NamesMounts, CountsUsage},
        "erofs": {
            CountsGets,
            FindsLeftovers,
            NamesMounts,
            KeepsMounts,
            CountsUsage,
            WorksInBackground,
        },
        "fuse-overlayfs": {CountsGets, FindsLeftovers, NamesMounts, CountsUsage},
        "btrfs": {FindsLeftovers, TellsUntouched, TellsTouched, CountsUsage},
        "vfs": {FindsLeftovers, TellsUntouched},
    }
    driver = NaiveDiffDriver(make(name))
    assert {one for one in ABILITIES if ability(driver, one)} == expected[name] | {
        ProbesHome,
        ChecksOptions,
    }
    assert {one for one in ABILITIES if ability(load(name), one)} >= {ProbesHome, ChecksOptions}


def test_the_wrapper_marks_a_home_with_the_drivers_name(driver: NaiveDiffDriver) -> None:
    assert (driver.driver_name, driver.home_format) == ("folders", 7)

    class Nameless(Folders):
        driver_name: ClassVar[str] = ""

    assert NaiveDiffDriver(Nameless()).driver_name == "Nameless"


def test_a_wrapper_can_be_copied(driver: NaiveDiffDriver, proto: Able) -> None:
    assert copy.copy(driver).proto is proto


# What a layer changed.


def rewrite(path: Path, content: str) -> None:
    """Change a file as nobody would see by its size and its time."""
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", [Folders, Able])
def test_a_change_of_the_same_size_and_time_is_found(tmp_path: Path, kind: type[Folders]) -> None:
    driver = NaiveDiffDriver(kind())
    driver.init(str(tmp_path), [], [], [])
    for id in ("a", "b"):
        driver.create(id, "", "", {})
        (tmp_path / id / "file").write_text("one")
        (tmp_path / id / "other").write_text("one")
        for name in ("file", "other"):
            os.utime(tmp_path / id / name, ns=(5, 5))
    assert list(driver.changes("b", "a")) == []
    rewrite(tmp_path / "b" / "file", "two")
    assert list(driver.changes("b", "a")) == [Change("/file", ChangeKind.MODIFIED)]


def test_what_changed_since_the_copy_is_found_and_nothing_else_is_read(
    driver: NaiveDiffDriver, proto: Able, tmp_path: Path
) -> None:
    # "same" differs in content, but a driver that says "not touched since" is believed.
    for id in ("a", "b"):
        os.utime(tmp_path / id / "same", ns=(5, 5))
    rewrite(tmp_path / "b" / "same", "sAme")
    changed = Change("/same", ChangeKind.MODIFIED)
    last = max((tmp_path / id / "same").stat().st_ctime_ns for id in ("a", "b"))
    proto.stamp = last + 1_000_000_000
    assert changed not in driver.changes("b", "a")
    assert ("untouched_since", "b", "a") in proto.calls
    proto.stamp = last  # within a tick of the clock: not to be told apart, so it is read
    assert changed in driver.changes("b", "a")
    proto.stamp = None
    assert changed in driver.changes("b", "a")


class Overlapping(Folders):
    """Notes what it is asked twice at a time for one layer; each call takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: dict[str, int] = {}
        self.overlaps: set[str] = set()

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        with self._asked(id):
            os.makedirs(self._path(id), exist_ok=True)

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        with self._asked(id):
            pass

    def remove(self, id: str) -> None:
        with self._asked(id):
            pass

    def get(self, id: str, mount_label: str) -> str:
        with self._asked(id):
            self.held[id] = self.held.get(id, 0) + 1
            return self._path(id)

    def put(self, id: str) -> None:
        with self._asked(id):
            super().put(id)

    def exists(self, id: str) -> bool:
        with self._asked(id):
            return True

    def get_metadata(self, id: str) -> Mapping[str, str]:
        with self._asked(id):
            return {}

    @contextlib.contextmanager
    def _asked(self, id: str) -> Iterator[None]:
        self.inside[id] = self.inside.get(id, 0) + 1
        if self.inside[id] > 1:
            self.overlaps.add(id)
        time.sleep(0.0005)
        yield
        self.inside[id] -= 1


CALLS: dict[str, Callable[[Driver], object]] = {
    "get and put": lambda driver: [driver.get("parent", ""), driver.put("parent")],
    "create": lambda driver: driver.create("parent", "", "", {}),
    "create read write": lambda driver: driver.create_read_write("parent", "", "", {}),
    "remove": lambda driver: driver.remove("parent"),
    "exists": lambda driver: driver.exists("parent"),
    "metadata": lambda driver: driver.get_metadata("parent"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_parent_is_never_asked_for_while_somebody_else_asks_for_it(
    tmp_path: Path, call: Callable[[Driver], object]
) -> None:
    proto = Overlapping()
    naive = NaiveDiffDriver(proto)
    naive.init(str(tmp_path), [], [], [])
    for id in ("parent", "b", "c", "d"):
        naive.create(id, "", "", {})

    def compare(id: str) -> None:
        for _ in range(20):
            naive.diff(id, "parent").close()
            naive.changes(id, "parent")

    def call_it() -> None:
        for _ in range(40):
            call(naive)

    threads = [threading.Thread(target=compare, args=(id,)) for id in ("b", "c", "d")]
    threads += [threading.Thread(target=call_it)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert proto.overlaps == set()
    assert set(proto.held.values()) == {0}
