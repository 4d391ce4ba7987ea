"""Hard links and symbolic links."""

from __future__ import annotations

import os
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.diffs import entries
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("links", "hard links and symbolic links")


def _expect_one_file(kit: Kit, layer: str, content: bytes, *names: bytes) -> None:
    """See that all of these names are one file."""
    found = kit.record(layer)
    for name in names:
        expect(f"whether {name!r} is there", name in found, True)
        expect(f"content of {name!r}", found[name].content, content)
        expect(f"the file that {name!r} is", found[name].file, found[names[0]].file)


@GROUP.case(see=references.HARD_LINKS)
def names_of_one_file(kit: Kit) -> None:
    """Hard links within a tar are names of one file, in the layer, its child and its Diff.

    git is one file under a hundred names. Stored as a hundred files, the image is a hundred times
    as large.
    """
    layer = kit.applied(
        tars.tar(
            tars.file(b"a/file", b"shared"),
            tars.hard_link(b"b/file", b"a/file"),
            tars.hard_link(b"c", b"b/file"),
        )
    )
    names = (b"a/file", b"b/file", b"c")
    _expect_one_file(kit, layer, b"shared", *names)
    found = entries(kit.diff(layer))
    stored = [name for name in ("a/file", "b/file", "c") if found[name].isreg()]
    expect("how many times the Diff holds the content", len(stored), 1)
    _expect_one_file(kit, kit.applied(kit.diff(layer)), b"shared", *names)
    child = kit.layer(layer)
    _expect_one_file(kit, child, b"shared", *names)


@GROUP.case(see=references.HARD_LINKS)
def to_a_file_of_the_layer_below(kit: Kit) -> None:
    """A hard link to a file of a layer below has its content, mode and owner.

    If a build step links a new name to a file of its base image, some builders write only the link.
    The tar then does not hold the content.
    """
    base = kit.applied(tars.tar(tars.file(b"below", b"old", mode=0o4755, uid=5, mtime=9)))
    layer = kit.applied(tars.tar(tars.hard_link(b"new/link", b"below")), base)
    found = kit.record(layer)
    expect_tree(
        "a link to a file of the layer below",
        {b"link": found[b"new/link"]._replace(file=b"")},
        {b"link": found[b"below"]._replace(file=b"")},
    )
    expect("its mode and owner", (found[b"new/link"].mode, found[b"new/link"].uid), ("0o104755", 5))


@GROUP.case(see=references.HARD_LINKS, required=False)
def one_file_with_the_layer_below(kit: Kit) -> None:
    """A hard link to a file of a layer below, and that file's own name, are one file.

    A program that writes to one of the names expects to see the change at the other one, as on any
    filesystem.
    """
    base = kit.applied(tars.tar(tars.file(b"below", b"old")))
    layer = kit.applied(tars.tar(tars.hard_link(b"link", b"below")), base)
    _expect_one_file(kit, layer, b"old", b"below", b"link")


@GROUP.case(see=references.HARD_LINKS)
def made_by_a_container(kit: Kit) -> None:
    """Hard links that a container makes, to its own files and the image's, are kept in a copy.

    ln in a container, docker commit, docker run: the names must still be one file, or each of them
    takes the space again.
    """
    base = kit.applied(tars.tar(tars.file(b"below", b"old"), tars.file(b"other", b"x")))

    def link(root: Path) -> None:
        (root / "new").write_bytes(b"new")
        os.link(root / "new", root / "new2")
        os.link(root / "below", root / "below2")

    layer = kit.layer(base, link)
    copy = kit.applied(kit.diff(layer, base), base)
    _expect_one_file(kit, copy, b"new", b"new", b"new2")
    found = {path: facts.content for path, facts in kit.record(copy).items()}
    expect("the second name of a file of the image", found[b"below2"], b"old")
    expect("its first name", found[b"below"], b"old")


@GROUP.case(see=references.LINKS_AS_IN_A_CHROOT)
def absolute_targets(kit: Kit) -> None:
    """A hard link's target may be /d/f, ./d/f or d/f: all start at the layer's root.

    Some image builders write a hard link's target as an absolute path. It starts at the layer's own
    root.
    """
    for target in (b"d/f", b"./d/f", b"/d/f"):
        layer = kit.applied(tars.tar(tars.file(b"d/f", b"x"), tars.hard_link(b"h", target)))
        _expect_one_file(kit, layer, b"x", b"d/f", b"h")


@GROUP.case(see=references.LINKS_AS_IN_A_CHROOT)
def targets_through_symbolic_links(kit: Kit) -> None:
    """A hard link's target may contain symbolic links; absolute ones start at the layer's root.

    In images where /lib is a link to /usr/lib, builders write hard links to lib/file. The path is
    resolved as in a chroot.
    """
    layer = kit.applied(
        tars.tar(
            tars.file(b"d/f", b"x"),
            tars.symlink(b"absolute", b"/d"),
            tars.symlink(b"e/relative", b"../d"),
            tars.hard_link(b"h", b"absolute/f"),
            tars.hard_link(b"i", b"e/relative/f"),
        )
    )
    _expect_one_file(kit, layer, b"x", b"d/f", b"h", b"i")


@GROUP.case(see=references.LINKS_AS_IN_A_CHROOT, required=False)
def entries_through_symbolic_links(kit: Kit) -> None:
    """An entry below a symbolic link of the layer below is created at the link's target, inside.

    A package for an old layout writes lib/file into an image where /lib is a link to /usr/lib. A
    directory instead of the link would hide all libraries.
    """
    base = kit.applied(tars.tar(tars.directory(b"usr/lib"), tars.symlink(b"lib", b"/usr/lib")))
    layer = kit.applied(tars.tar(tars.file(b"lib/new", b"x")), base)
    found = {path: facts.content for path, facts in kit.record(layer).items()}
    expected = {b"usr": b"", b"usr/lib": b"", b"usr/lib/new": b"x", b"lib": b"/usr/lib"}
    expect("names and content", found, expected)


@GROUP.case(see=references.ANY_ORDER, required=False)
def targets_that_come_later(kit: Kit) -> None:
    """A hard link may precede its target.

    Some tools sort a tar by name. A hard link may then come before the entry with the content.
    """
    layer = kit.applied(
        tars.tar(tars.hard_link(b"c", b"b"), tars.hard_link(b"b", b"a"), tars.file(b"a", b"late"))
    )
    _expect_one_file(kit, layer, b"late", b"a", b"b", b"c")


@GROUP.case(see=references.AUFS)
def targets_that_aufs_moved_away(kit: Kit) -> None:
    """Hard links to files in .wh..wh.plnk are names of one file, and that directory does not show.

    AUFS stored a file with several names in .wh..wh.plnk, and old images hold hard links to there.
    Without them programs are missing.
    """
    layer = kit.applied(
        tars.tar(
            tars.directory(b".wh..wh.plnk"),
            tars.file(b".wh..wh.plnk/17.5", b"shared"),
            tars.hard_link(b"a", b".wh..wh.plnk/17.5"),
            tars.hard_link(b"d/b", b"/.wh..wh.plnk/17.5"),
        )
    )
    expect("names", sorted(kit.record(layer)), [b"a", b"d", b"d/b"])
    _expect_one_file(kit, layer, b"shared", b"a", b"d/b")


@GROUP.case(see=references.NAMES_OF_ONE_FILE)
def replacing_one_name(kit: Kit) -> None:
    """A file that replaces one name of a file of the layer below keeps the file's other names.

    A layer that replaces a file replaces one of its names. The file's other names below keep their
    content.
    """
    base = kit.applied(tars.tar(tars.file(b"a", b"old"), tars.hard_link(b"b", b"a")))
    layer = kit.applied(tars.tar(tars.file(b"a", b"new", mode=0o600)), base)
    found = kit.record(layer)
    shown = {path: (facts.content, facts.mode) for path, facts in found.items()}
    expect("both names", shown, {b"a": (b"new", "0o100600"), b"b": (b"old", "0o100644")})
    kept = {path: facts.content for path, facts in kit.record(base).items()}
    expect("both names in the layer below", kept, {b"a": b"old", b"b": b"old"})


@GROUP.case(see=references.SYMBOLIC_LINKS)
def symbolic_links_are_kept(kit: Kit) -> None:
    """A symbolic link keeps target, owner and time: absolute, dangling, with .., or to itself.

    A target is a path inside the container, and need not exist. A plugin that resolves or changes
    it breaks programs that read the link.
    """
    texts = (b"/etc/passwd", b"no/where", b"../" * 20 + b"etc", b"self", b"x" * 100)
    data = b"".join(
        tars.symlink(b"l%d" % number, text, uid=1000 + number, mtime=number)
        for number, text in enumerate(texts)
    )
    first = kit.applied(tars.tar(data, tars.symlink(b"self", b"self")))
    for layer in (first, kit.applied(kit.diff(first))):
        found = kit.record(layer)
        for number, text in enumerate(texts):
            facts = found[b"l%d" % number]
            expect(f"text of the link to {text!r}", facts.content, text)
            expected = (1000 + number, number * 10**9)
            expect(f"owner and time of the link to {text!r}", (facts.uid, facts.mtime_ns), expected)


@GROUP.case(see=references.SYMBOLIC_LINKS)
def file_over_a_symbolic_link(kit: Kit) -> None:
    """A file over a symbolic link replaces the link, and is not written to the link's target.

    A layer that replaces a link by a file must not change the file that the link leads to, in the
    container or on the host.
    """
    base = kit.applied(tars.tar(tars.file(b"target", b"old"), tars.symlink(b"link", b"target")))
    layer = kit.applied(tars.tar(tars.file(b"link", b"new", mode=0o600)), base)
    found = {path: (facts.content, facts.mode) for path, facts in kit.record(layer).items()}
    expected = {b"target": (b"old", "0o100644"), b"link": (b"new", "0o100600")}
    expect("content and mode", found, expected)
