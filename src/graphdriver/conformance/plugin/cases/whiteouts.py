"""Whiteouts, which delete one name, and opaque directories."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import remove
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.cases.chains import build_at
from graphdriver.conformance.plugin.diffs import entries
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("whiteouts", "whiteouts and opaque directories")

_BASE = tars.tar(
    *(tars.directory(name) for name in (b"d", b"d/sub", b"d/sub/deep", b"e")),
    *(tars.file(name, b"old") for name in (b"f", b"d/f", b"d/sub/f", b"d/sub/deep/f", b"e/f")),
    tars.symlink(b"l", b"e"),
)
_OPAQUE = b".wh..wh..opq"


def _names(kit: Kit, base: str, *entries: bytes) -> list[bytes]:
    """Apply a tar on a layer, and return all names that it shows then."""
    return sorted(kit.record(kit.applied(tars.tar(*entries), base)))


@GROUP.case(see=references.WHITEOUTS)
def deletes_in_the_layers_below(kit: Kit) -> None:
    """A file .wh.NAME deletes NAME of the layers below, with all its content, and does not show.

    A file that an image deletes, such as a password, must be gone for every container.
    """
    base = kit.applied(_BASE)
    whiteouts = (tars.whiteout(name) for name in (b".wh.f", b"d/.wh.sub", b"e/.wh.f"))
    expect("names", _names(kit, base, *whiteouts), [b"d", b"d/f", b"e", b"l"])
    expect("names in the layer below", len(kit.record(base)), 10)


@GROUP.case(see=references.WHITEOUTS)
def deletes_a_link_and_not_its_target(kit: Kit) -> None:
    """A whiteout of a symbolic link deletes the link and keeps its target.

    An image that replaces /lib by another link deletes the old link first. Its target, perhaps
    /usr/lib, must stay.
    """
    found = _names(kit, kit.applied(_BASE), tars.whiteout(b".wh.l"))
    expect("names", [name for name in found if name[:1] in b"el"], [b"e", b"e/f"])


@GROUP.case(see=references.WHITEOUTS)
def of_nothing(kit: Kit) -> None:
    """A whiteout of a name that the layers below do not have, or in a first layer, is no error.

    A step that creates a file and a later one that deletes it are sometimes joined to one layer.
    The whiteout then has nothing to delete, and the image must load.
    """
    base = kit.applied(_BASE)
    nothing = tars.whiteout(b".wh.nothing"), tars.whiteout(b"d/.wh.nothing")
    expect("names", _names(kit, base, *nothing), sorted(kit.record(base)))
    expect("names in a first layer", _names(kit, "", tars.file(b"g"), nothing[0]), [b"g"])


@GROUP.case(see=references.WHITEOUTS)
def keeps_the_layers_own_files(kit: Kit) -> None:
    """A whiteout hides the layers below, not its own layer's entries, in either order.

    A file that was deleted and created again is in one tar as whiteout and as entry, in either
    order. The new file must stay.
    """
    base = kit.applied(_BASE)
    for pair in itertools.permutations([tars.whiteout(b".wh.f"), tars.file(b"f", b"new")]):
        found = kit.record(kit.applied(tars.tar(*pair), base))
        expect("content of a file", found[b"f"].content if b"f" in found else None, b"new")
    replaced = tars.whiteout(b".wh.d"), tars.directory(b"d"), tars.file(b"d/sub/new")
    for order in itertools.permutations(replaced):
        names = [name for name in _names(kit, base, *order) if name.startswith(b"d/")]
        expect("what is in a directory deleted and created again", names, [b"d/sub", b"d/sub/new"])


@GROUP.case(see=references.OPAQUE)
def opaque_directory(kit: Kit) -> None:
    """A file .wh..wh..opq, anywhere in the tar, hides what the layers below have in its directory.

    A step such as rm -r and mkdir leaves a new directory with the name of an old one. The old
    content must not show through.
    """
    base = kit.applied(_BASE)
    mark, directory = tars.whiteout(b"d/" + _OPAQUE), tars.directory(b"d", 0o700)
    own = tars.file(b"d/new"), tars.file(b"d/sub/deep/new")
    expected = [b"d/new", b"d/sub", b"d/sub/deep", b"d/sub/deep/new"]
    for order in (
        (directory, mark, *own),
        (directory, *own, mark),
        (mark, *own),
        (*own, directory, mark),
    ):
        found = _names(kit, base, *order)
        expect(
            "content of an opaque directory", [n for n in found if n.startswith(b"d/")], expected
        )
        expect("whether another directory is there", b"e/f" in found, True)


@GROUP.case(see=references.OPAQUE)
def opaque_directory_stays_opaque(kit: Kit) -> None:
    """What an opaque directory hides stays hidden in the layers above, which can create it again.

    Layers above mount the same chain again. If one of them forgot the mark, old files would come
    back there.
    """
    base = kit.applied(_BASE)
    opaque = kit.applied(tars.tar(tars.directory(b"d"), tars.whiteout(b"d/" + _OPAQUE)), base)
    above = kit.applied(tars.tar(tars.directory(b"d"), tars.file(b"d/f", b"again")), opaque)
    found = {path: facts.content for path, facts in kit.record(above).items()}
    expected = {b"d": b"", b"d/f": b"again", b"e": b"", b"e/f": b"old", b"f": b"old", b"l": b"e"}
    expect("names and content", found, expected)


@GROUP.case(see=references.OPAQUE, required=False)
def opaque_root(kit: Kit) -> None:
    """A file .wh..wh..opq in the root hides everything of the layers below.

    A layer that replaces a whole image marks the root itself. Then nothing of the layers below may
    show.
    """
    found = _names(kit, kit.applied(_BASE), tars.file(b"e/new"), tars.whiteout(_OPAQUE))
    expect("names", found, [b"e", b"e/new"])


@GROUP.case(see=references.OPAQUE)
def directory_deleted_and_created_again(kit: Kit) -> None:
    """A directory that a container deleted and created again has only new content, also in a copy.

    Package managers replace a directory in this way within one step. Its Diff needs an opaque mark,
    or a whiteout for each old entry.
    """
    base = kit.layer(fill=build_at)

    def renew(root: Path) -> None:
        for name in ("etc", "hard"):
            remove(root / name)
            (root / name).mkdir()
        (root / "etc" / "new").touch()

    layer = kit.layer(base, renew)
    shown = kit.record(layer)
    names = [path for path in shown if path.startswith((b"etc", b"hard"))]
    expect("names in the layer", names, [b"etc", b"etc/new", b"hard"])
    copy = kit.applied(kit.diff(layer, base), base)
    expect_tree("a layer made from the Diff", kit.record(copy), shown)


@GROUP.case(see=references.WHITEOUTS)
def diff_has_whiteouts(kit: Kit) -> None:
    """A Diff has an empty file .wh.NAME for each deletion, and none for a directory's content.

    Without a whiteout the deletion is lost when the layer is pushed: the file comes back in every
    container of the image.
    """
    base = kit.layer(fill=build_at)

    def clear(root: Path) -> None:
        (root / "etc" / "passwd").unlink()
        remove(root / "deep")

    found = entries(kit.diff(kit.layer(base, clear), base))
    expect("names in the Diff", sorted(found.keys() - {"etc"}), [".wh.deep", "etc/.wh.passwd"])
    for name in (".wh.deep", "etc/.wh.passwd"):
        entry = found[name]
        expect(f"whether {name} is an empty file", (entry.isreg(), entry.size), (True, 0))


@GROUP.case(see=references.SAME_DIGEST)
def time_is_fixed(kit: Kit) -> None:
    """A whiteout in a Diff has a fixed time, not that of the deletion.

    The same deletion on two days is the same change. With the time of the deletion, a build that is
    repeated has another digest.
    """
    base = kit.layer(fill=build_at)
    began = time.time() - 60
    layer = kit.layer(base, lambda root: (root / "etc" / "passwd").unlink())
    entry = entries(kit.diff(layer, base))["etc/.wh.passwd"]
    recent = "a time of this last minute" if began < entry.mtime else "another"
    expect("the whiteout's time", recent, "another")


@GROUP.case(see=references.WHITEOUTS)
def created_again_above(kit: Kit) -> None:
    """What one layer deleted, another can create again, and delete again.

    Upgrades delete a file in one layer and install it in the next. A whiteout that works on all
    layers above would hide it forever.
    """
    names = []
    layer = kit.applied(_BASE)
    for entry in (tars.whiteout(b".wh.d"), tars.file(b"d/f", b"new"), tars.whiteout(b".wh.d")):
        layer = kit.applied(tars.tar(entry), layer)
        names.append([name for name in kit.record(layer) if name.startswith(b"d")])
    expect("a directory's names in three layers", names, [[], [b"d", b"d/f"], []])


@GROUP.case(see=references.AUFS)
def aufs_own_names_are_left_out(kit: Kit) -> None:
    """Other names that begin with .wh..wh. are AUFS's own, and do not show.

    Images from the time of AUFS hold its internal files. They are not content, and a container must
    not see them.
    """
    entries = (
        tars.whiteout(b".wh..wh.aufs"),
        tars.directory(b".wh..wh.orph"),
        tars.file(b".wh..wh.orph/x"),
        tars.directory(b".wh..wh.plnk"),
        tars.file(b"f"),
    )
    expect("names", _names(kit, "", *entries), [b"f"])
