"""Snapshotters whose mounts mean harm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from graphdriver.abilities import Mount
from graphdriver.containerd.metadata import Snapshot, SnapshotKind
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.linux.mount import MS_BIND, mount
from tests.conformance.kit.hostile import Attack, Ground
from tests.conformance.snapshotter.faults.fault import Broken, Labels, Shown

WRITES_TO_A_NEW_SNAPSHOT = "content/root-mode-is-kept"
LOOKS_AT_A_NEW_SNAPSHOT = "mounts/root-directory-is-open"
WRITES_TO_A_CHILD = "content/chain-of-snapshots"


class Hostile(Shown):
    """Snapshots that work until ``ground`` is there."""

    ground: ClassVar[Ground]


ATTACKS: list[Attack[Hostile]] = []


def answers(
    name: str,
    says: str,
    make: Callable[[Ground], Sequence[Mount]],
    cases: Sequence[str] = (WRITES_TO_A_NEW_SNAPSHOT, LOOKS_AT_A_NEW_SNAPSHOT),
) -> None:
    """Add a snapshotter that answers Prepare and View with what is made for it."""

    class Answers(Hostile):
        def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
            return make(self.ground)

    for case in cases:
        ATTACKS.append(Attack(f"{name} ({case.partition('/')[0]})", case, says, Answers))


def binds(name: str, says: str, source: Callable[[Ground], object]) -> None:
    """Add a snapshotter that names a bind mount of what is made for it."""
    answers(name, says, lambda ground: [Mount("bind", str(source(ground)), ("rbind", "rw"))])


def overlays(name: str, says: str, *options: str) -> None:
    """Add one that names an overlay; HOME, CANARY and VICTIM in its options stand for their paths."""

    def make(ground: Ground) -> Sequence[Mount]:
        for part in ("lower", "upper", "work"):
            (ground.home / part).mkdir(exist_ok=True)
        places = {"HOME": ground.home, "CANARY": ground.canary.root, "VICTIM": ground.victim}
        told = list(options)
        for word, path in places.items():
            told = [option.replace(word, str(path)) for option in told]
        kind, _, rest = name.partition(": ")
        return [Mount("overlay" if rest == "" else kind, "overlay", tuple(told))]

    answers(name, says, make)


def link(ground: Ground) -> Path:
    place = ground.home / "link"
    if not place.is_symlink():
        place.symlink_to(ground.canary.root)
    return place


def bound(ground: Ground) -> Path:
    place = ground.home / "bound"
    if not place.is_dir():
        place.mkdir()
        mount(str(ground.canary.root / "empty"), str(place), "", MS_BIND, "")
    return place


answers("no mount", "whether a mount exists", lambda _: [])
binds("an empty source", "an absolute path", lambda _: "")
binds("a relative source", "an absolute path", lambda _: "empty")
binds("the working directory", "an absolute path", lambda _: ".")
binds("the root", "a clean path", lambda _: "/")
binds("a path that climbs", "a clean path", lambda g: f"{g.home}/../canary/empty")
binds("two slashes", "a clean path", lambda g: f"/{g.canary.root}/empty")
binds("what is not there", "No such file", lambda g: g.home / "absent")
binds("a file", "Not a directory", lambda g: g.canary.root / "secret")
binds("a directory of the host", "belongs to the host", lambda g: g.canary.root / "folder")
binds("an empty directory of the host", "belongs to the host", lambda g: g.canary.root / "empty")
binds("/etc", "belongs to the host", lambda _: "/etc")
binds("the home", "which holds", lambda g: g.home)
binds("what the home is in", "which holds", lambda g: g.home.parent)
binds("where the kit works", "which holds", lambda g: g.directory)
binds("where the kit was started", "which holds", lambda _: os.getcwd())
binds("a link to the host", "without symbolic links", link)
binds("a path through a link", "without symbolic links", lambda g: link(g) / "empty")
binds("a bind mount of the host", "belongs to the host", bound)
overlays(
    "a lower of the host",
    "belongs to the host",
    "lowerdir=HOME/lower:CANARY/folder",
    "upperdir=HOME/upper",
    "workdir=HOME/work",
)
overlays(
    "an upper of the host",
    "belongs to the host",
    "lowerdir=HOME/lower",
    "upperdir=VICTIM/upper",
    "workdir=HOME/work",
)
overlays(
    "a work directory of the host",
    "belongs to the host",
    "lowerdir=HOME/lower",
    "upperdir=HOME/upper",
    "workdir=VICTIM/work",
)
overlays(
    "an upper hidden in another option",
    "one without a path",
    "lowerdir=HOME/lower",
    "index=off,upperdir=VICTIM/upper",
    "workdir=HOME/work",
)
overlays(
    "an upper hidden in a lower",
    "lowerdir of an overlay mount",
    "lowerdir=HOME/lower,upperdir=VICTIM/upper,workdir=VICTIM/work",
)
overlays(
    "another way to name a lower",
    "one without a path",
    "lowerdir+=CANARY",
    "upperdir=HOME/upper",
    "workdir=HOME/work",
)
overlays(
    "fuse3.fuse-overlayfs: of the host",
    "belongs to the host",
    "lowerdir=CANARY/folder",
    "upperdir=VICTIM/upper",
    "workdir=VICTIM/work",
)
overlays("fuse3.sh: a program", "the type of a mount", "lowerdir=HOME/lower")
overlays("fuse3.../../bin/rm: a path to one", "the type of a mount", "lowerdir=HOME/lower")
overlays("ext4: a disk", "the type of a mount", "rw")
overlays("proc: the kernel", "the type of a mount", "rw")


class _Child(Hostile):
    """Spoils what is prepared upon a parent."""

    good = Overlay2Driver

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        mounts = super().prepare(key, parent, labels)
        if parent:
            told = dict(option.partition("=")[::2] for option in mounts[-1].options)
            self.spoil(Path(told["upperdir"]))
        return mounts

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        return mounts

    def spoil(self, upper: Path) -> None:
        raise NotImplementedError


class _Link(_Child):
    def spoil(self, upper: Path) -> None:
        (upper / "kept").symlink_to(self.ground.canary.root / "secret")


class _FirstLayerHasAHardLink(Hostile):
    """Shows a new snapshot that is not empty: it has a file of the host's."""

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        (Path(mounts[0].source) / "kept").hardlink_to(self.ground.victim / "file")
        return mounts


class _LongList(Hostile):
    """Lists more snapshots than anybody has."""

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        return mounts

    def find(self, filters: Iterable[str]) -> list[Snapshot]:
        one = Snapshot(1, "x" * 100, SnapshotKind.ACTIVE, "", "", "1", {}, 0, 0, None)
        return [one] * 100_001


class _HugeAnswer(Hostile):
    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        return [replace(mounts[0], options=("x" * (17 << 20),))]


ATTACKS += [
    Attack("a link in a child", WRITES_TO_A_CHILD, "Too many levels", _Link),
    Attack("a hard link", LOOKS_AT_A_NEW_SNAPSHOT, "is new", _FirstLayerHasAHardLink),
    Attack("a list that is too long", "metadata/list-returns-all", "over 100000", _LongList),
    Attack("a huge answer", WRITES_TO_A_NEW_SNAPSHOT, "", _HugeAnswer),
]

__all__ = ["ATTACKS", "Attack", "Broken", "Hostile"]
