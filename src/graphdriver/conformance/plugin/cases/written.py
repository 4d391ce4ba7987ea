"""Layers that are written to through Get, as BuildKit and containers do."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import edit
from graphdriver.conformance.plugin import tars
from graphdriver.conformance.plugin.cases.chains import build_at
from graphdriver.conformance.plugin.diffs import entries, expect_changes
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("written", "layers written to after a Get, as BuildKit and containers do")


@GROUP.case()
def either_kind_can_be_written(kit: Kit) -> None:
    """A layer made by Create can be written to like one made by CreateReadWrite.

    BuildKit runs its containers on layers that Create made. A plugin that makes those read-only
    cannot build.
    """
    base = kit.layer(fill=build_at)
    expected: list[object] = []
    for name, create in (
        ("CreateReadWrite", kit.driver.create_read_write),
        ("Create", kit.driver.create),
    ):
        layer = kit.id()
        create(layer, base, "", {})
        with kit.shown(layer) as root:
            edit(root)
            (root / "new").write_bytes(bytes(1000))
        size = kit.driver.diff_size(layer, base)
        names = sorted(entries(kit.diff(layer, base)))
        expected = expected or [size, names]
        expect(f"DiffSize of a file written to a layer of {name}", size, expected[0])
        expect(f"names in the Diff of a layer of {name}", names, expected[1])
        expect("whether the Diff holds the written file", "new" in names, True)


@GROUP.case()
def stays_when_put(kit: Kit) -> None:
    """What was written between Get and the last Put is there at the next Get.

    docker stop sends the last Put, and docker start the next Get. What the container wrote is its
    data.
    """
    layer = kit.layer(fill=build_at)
    before = kit.record(layer)
    with kit.shown(layer) as root:
        (root / "etc" / "passwd").write_text("written at the second Get")
        edited = os.stat(root / "etc" / "passwd")
    after = kit.record(layer)
    expect("content of a file", after[b"etc/passwd"].content, b"written at the second Get")
    expect("its time", after[b"etc/passwd"].mtime_ns, edited.st_mtime_ns)
    expect_tree("all else", {**after, b"etc/passwd": before[b"etc/passwd"]}, before)


@GROUP.case()
def steps_of_a_build(kit: Kit) -> None:
    """Layers written one after the other, and their Diffs applied, show the same image.

    BuildKit runs each step on the layer of the step before, and later exports the Diff of each.
    Here the image must be the same as there.
    """

    def install(root: Path) -> None:
        (root / "usr" / "bin").mkdir(parents=True)
        (root / "usr" / "bin" / "tool").write_text("1")
        os.symlink("usr/bin", root / "bin2")
        os.chmod(root / "tmp", 0o777)

    def upgrade(root: Path) -> None:
        (root / "usr" / "bin" / "tool.new").write_text("2")
        os.chown(root / "usr" / "bin" / "tool.new", 5, 6)
        os.rename(root / "usr" / "bin" / "tool.new", root / "usr" / "bin" / "tool")

    first = kit.layer(fill=build_at)
    base = kit.applied(kit.diff(first))
    expect_tree("the first layer's Diff, applied", kit.record(base), kit.record(first))
    built = [base]
    for step in (edit, install, upgrade):
        built.append(kit.layer(built[-1], step))
        kit.driver.diff_size(built[-1], built[-2])
    loaded = base
    for parent, child in itertools.pairwise(built):
        loaded = kit.applied(kit.diff(child, parent), loaded)
    expect_tree("the image, loaded", kit.record(loaded), kit.record(built[-1]))


@GROUP.case()
def written_again_after_a_diff(kit: Kit) -> None:
    """Diff, DiffSize and Changes include what was written since the last call.

    docker commit of a running container is repeated while the container writes on. A plugin that
    keeps the first result loses everything since.
    """
    base = kit.layer(fill=lambda root: (root / "file").write_bytes(bytes(10)))
    layer = kit.layer(base, lambda root: (root / "one").write_bytes(bytes(100)))
    expect("DiffSize", kit.driver.diff_size(layer, base), 100)
    expect("names in the Diff", sorted(entries(kit.diff(layer, base))), ["one"])
    with kit.shown(layer) as root:
        (root / "two").write_bytes(bytes(1000))
        (root / "file").unlink()
    expect("DiffSize after more was written", kit.driver.diff_size(layer, base), 1100)
    names = sorted(entries(kit.diff(layer, base)))
    expect("names in the Diff after more was written", names, [".wh.file", "one", "two"])
    expect_changes(
        "Changes after more was written", kit.driver, layer, base, ["A /one", "A /two", "D /file"]
    )


@GROUP.case()
def diff_of_a_mounted_layer(kit: Kit) -> None:
    """A layer that is mounted and written to has a Diff, and the mount stays as it is.

    docker commit sends Get for a layer that its container still writes to, and asks for the layer's
    Diff at the same time.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base)
    with kit.shown(layer) as root, contextlib.ExitStack() as held:
        log = held.enter_context(open(root / "log", "wb", buffering=0))
        log.write(b"before")
        edit(root)
        copy = kit.applied(kit.diff(layer, base), base)
        expect_tree("a layer made from the Diff", kit.record(copy), kit.record(layer))
        log.write(b" and after")
        expect("a file that is still written to", (root / "log").read_bytes(), b"before and after")
    expect("that file in the end", kit.record(layer)[b"log"].content, b"before and after")


@GROUP.case()
def files_of_below_can_be_renamed(kit: Kit) -> None:
    """A file of the layer below that is renamed is renamed in Diff and Changes, too.

    mv in a container moves a file of its image. In the Diff this is a new file and a deletion, and
    neither may be missing.
    """
    base = kit.layer(fill=build_at)

    def rename(root: Path) -> None:
        os.rename(root / "etc" / "passwd", root / "etc" / "shadow")
        os.rename(root / "bin" / "su", root / "bin" / "ping")

    layer = kit.layer(base, rename)
    expect_changes(
        "Changes",
        kit.driver,
        layer,
        base,
        ["C /bin", "C /bin/ping", "D /bin/su", "C /etc", "D /etc/passwd", "A /etc/shadow"],
    )
    copy = kit.applied(kit.diff(layer, base), base)
    expect_tree("a layer made from the Diff", kit.record(copy), kit.record(layer))


@GROUP.case()
def on_applied_layers(kit: Kit) -> None:
    """A layer on an applied layer can be written to, and the lower layer does not change.

    docker pull applies layers, and a build writes on top of them. Both kinds of layers are in one
    chain.
    """
    data = tars.tar(tars.directory(b"d", mtime=7), tars.file(b"d/f", b"image", mtime=8))
    base = kit.applied(data)
    before = kit.record(base)

    def write(root: Path) -> None:
        with open(root / "d" / "f", "ab") as file:
            file.write(b", and more")
        (root / "d" / "g").touch()

    layer = kit.layer(base, write)
    expect("a file that was appended to", kit.record(layer)[b"d/f"].content, b"image, and more")
    expect_tree("the layer below", kit.record(base), before)
    expect_changes("Changes", kit.driver, layer, base, ["C /d", "C /d/f", "A /d/g"])
