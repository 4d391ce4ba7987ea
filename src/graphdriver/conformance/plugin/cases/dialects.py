"""The tar of a layer as tar programs write it, entries in any order."""

from __future__ import annotations

import stat

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group(
    "dialects", "the tar formats of different programs, in any order of entries"
)

_LONG_PATH = b"/".join([b"d" * 60] * 4)
"""A path longer than a header's field, and than both fields of ustar together."""


@GROUP.case(see=references.DIALECTS)
def ustar(kit: Kit) -> None:
    """A ustar's split names, owners, modes and times are applied; zeros at its end are ignored.

    A daemon passes a layer's tar on as the image's author wrote it. ustar is the base of all tar
    formats that are in use.
    """
    data = tars.tar(
        tars.directory(b"etc/", mode=0o750, uid=3, gid=4, mtime=1_600_000_000),
        tars.file(b"f" * 90, b"x" * 700, prefix=b"etc/" + b"p" * 100, uid=1000, mtime=7),
    )
    found = kit.record(kit.applied(data.ljust(10_240, b"\0")))
    name = b"etc/" + b"p" * 100 + b"/" + b"f" * 90
    expect("names", set(found), {b"etc", b"etc/" + b"p" * 100, name})
    directory = found[b"etc"]
    expect(
        "mode, owner and time of a directory",
        (directory.mode, directory.uid, directory.gid, directory.mtime_ns),
        (oct(stat.S_IFDIR | 0o750), 3, 4, 1_600_000_000 * 10**9),
    )
    expect("content of a file", found[name].content, b"x" * 700)
    expect("owner and time of a file", (found[name].uid, found[name].mtime_ns), (1000, 7 * 10**9))


@GROUP.case(see=references.DIALECTS)
def gnu_long_names(kit: Kit) -> None:
    """GNU's long names and long link targets (types L and K) are applied.

    GNU tar writes names of over 100 bytes in this way. A reader that does not know it cuts them
    off.
    """
    name = _LONG_PATH + b"/f"
    layer = kit.applied(
        tars.tar(
            tars.gnu_long(b"L", name),
            tars.file(name[:100], b"far", magic=tars.GNU),
            tars.gnu_long(b"K", name),
            tars.symlink(b"symbolic", name[:100], magic=tars.GNU),
            tars.gnu_long(b"K", name),
            tars.header(b"hard", b"1", link=name[:100], magic=tars.GNU),
        )
    )
    _expect_far(kit, layer, name)


@GROUP.case(see=references.DIALECTS)
def pax_names(kit: Kit) -> None:
    """PAX's long names and link targets are applied, also those that are not ASCII.

    Go, Python and bsdtar write long names and names beyond ASCII in PAX headers. A reader that
    ignores them creates files of the wrong name.
    """
    name = _LONG_PATH + b"/caf\xc3\xa9"
    layer = kit.applied(
        tars.tar(
            tars.pax([(b"path", name)]),
            tars.file(b"cut", b"far"),
            tars.pax([(b"linkpath", name)]),
            tars.symlink(b"symbolic", b"cut"),
            tars.pax([(b"linkpath", name)]),
            tars.hard_link(b"hard", b"cut"),
        )
    )
    _expect_far(kit, layer, name)


def _expect_far(kit: Kit, layer: str, name: bytes) -> None:
    found = kit.record(layer)
    files = {path for path, facts in found.items() if not facts.mode.startswith("0o4")}
    expect("names of files", files, {name, b"symbolic", b"hard"})
    expect("content of the file with a long name", found[name].content, b"far")
    expect("text of a symbolic link", found[b"symbolic"].content, name)
    expect("content of a hard link", found[b"hard"].content, b"far")


@GROUP.case(see=references.DIALECTS)
def large_numbers(kit: Kit) -> None:
    """Owners and times that octal digits cannot hold are applied, from base-256 and from PAX.

    User IDs above two million do not fit into a tar header's octal field, and occur with LDAP and
    Active Directory.
    """
    early, late = -1_500_000_000, 9_000_000_000
    times = [(b"mtime", str(early).encode())]
    layer = kit.applied(
        tars.tar(
            tars.file(b"base-256", uid=3_000_000, gid=2_100_000, mtime=late, magic=tars.GNU),
            tars.file(b"early", mtime=early, magic=tars.GNU),
            tars.pax([(b"uid", b"3000000"), (b"gid", b"2100000"), *times]),
            tars.file(b"pax"),
        )
    )
    found = kit.record(layer)
    seconds = {path: facts.mtime_ns // 10**9 for path, facts in found.items()}
    expect("times, in seconds", seconds, {b"base-256": late, b"early": early, b"pax": early})
    for name in (b"base-256", b"pax"):
        expect(f"owner of {name!r}", (found[name].uid, found[name].gid), (3_000_000, 2_100_000))


@GROUP.case(see=references.PAX_SIZE)
def pax_size_wins(kit: Kit) -> None:
    """A size in a PAX header takes precedence over the size in the file's own header.

    An entry may state its size twice. A reader that uses the wrong one reads a file's content as
    entries.
    """
    hidden = tars.file(b"hidden", b"hidden")
    layer = kit.applied(
        tars.tar(
            tars.pax([(b"size", str(len(hidden)).encode())]),
            tars.header(b"file", size=0) + tars.padded(hidden),
            tars.file(b"next", b"next"),
        )
    )
    found = {path: facts.content for path, facts in kit.record(layer).items()}
    expect("names and content", found, {b"file": hidden, b"next": b"next"})


@GROUP.case(see=references.DIALECTS)
def pax_for_all(kit: Kit) -> None:
    """A global PAX header, as git writes it, creates no file, and the entries after it are applied.

    git archive begins its tars with a global PAX header, and images are made of such tars. It must
    not become a file.
    """
    comment = (b"comment", b"7fd1a60b01f91b314f59955a4e4d4e80d8edf11d")
    layer = kit.applied(tars.tar(tars.pax([comment], b"g"), tars.file(b"f", b"data")))
    found = {path: facts.content for path, facts in kit.record(layer).items()}
    expect("names and content", found, {b"f": b"data"})


@GROUP.case(see=references.SPARSE)
def sparse_files(kit: Kit) -> None:
    """A sparse file is restored, from GNU's old format and from PAX's three.

    A tar may leave out the holes of a file. A reader that does not know this shifts the content.
    """
    # Three bytes at 0, and two at 512 of a thousand.
    numbers = (0, 3, 512, 2)
    listed = b",".join(b"%d" % number for number in numbers)
    old = b"".join(tars.octal(number, 12) for number in numbers).ljust(96, b"\0")
    old_header = tars.header(b"old", b"S", size=5, magic=tars.GNU)
    old_header = old_header[:386] + old + b"\0" + tars.octal(1000, 12) + old_header[495:]
    size = (b"GNU.sparse.size", b"1000")
    pairs = [
        (b"GNU.sparse.offset", b"0"),
        (b"GNU.sparse.numbytes", b"3"),
        (b"GNU.sparse.offset", b"512"),
        (b"GNU.sparse.numbytes", b"2"),
    ]
    version_1 = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    version_1 += [(b"GNU.sparse.name", b"1.0"), (b"GNU.sparse.realsize", b"1000")]
    in_front = tars.padded(b"2\n" + b"".join(b"%d\n" % number for number in numbers))
    count = (b"GNU.sparse.numblocks", b"2")
    name = (b"GNU.sparse.name", b"0.1")
    layer = kit.applied(
        tars.tar(
            tars.checked(old_header) + tars.padded(b"abcde"),
            tars.pax([size, count, *pairs]),
            tars.file(b"0.0", b"abcde"),
            tars.pax([size, count, name, (b"GNU.sparse.map", listed)]),
            tars.file(b"GNUSparseFile.1/0.1", b"abcde"),
            tars.pax(version_1),
            tars.file(b"GNUSparseFile.1/1.0", in_front + b"abcde"),
            tars.file(b"next", b"next"),
        )
    )
    whole = b"abc".ljust(512, b"\0") + b"de".ljust(488, b"\0")
    found = kit.record(layer)
    expect("names", sorted(found), [b"0.0", b"0.1", b"1.0", b"next", b"old"])
    for path in (b"old", b"0.0", b"0.1", b"1.0"):
        expect(f"whether the sparse file {path!r} is whole", found[path].content == whole, True)


@GROUP.case(see=references.ANY_ORDER)
def entries_in_any_order(kit: Kit) -> None:
    """A directory's entry may follow its content: it sets the attributes and keeps the content.

    No rule says that a directory comes before its content, and images exist in which it comes
    after.
    """
    layer = kit.applied(
        tars.tar(
            tars.file(b"a/b/file"),
            tars.directory(b"a/b", 0o711, uid=5, mtime=8),
            tars.symlink(b"a/link", b"b"),
            tars.directory(b"a", 0o700, mtime=9),
        )
    )
    found = kit.record(layer)
    expect("names", sorted(found), [b"a", b"a/b", b"a/b/file", b"a/link"])
    for path, mode, uid, seconds in ((b"a", 0o700, 0, 9), (b"a/b", 0o711, 5, 8)):
        facts = found[path]
        expect(
            f"mode, owner and time of {path!r}",
            (facts.mode, facts.uid, facts.mtime_ns),
            (oct(stat.S_IFDIR | mode), uid, seconds * 10**9),
        )


@GROUP.case(see=references.MISSING_PARENTS)
def missing_parents_are_created(kit: Kit) -> None:
    """Directories without an entry are created, 0755 and root's; those below keep their attributes.

    Images exist whose layers leave directories out. Containers that do not run as root must be able
    to pass through them.
    """
    base = kit.applied(tars.tar(tars.directory(b"old", 0o700, uid=7), tars.file(b"old/kept")))
    layer = kit.applied(
        tars.tar(tars.file(b"new/deep/file"), tars.directory(b"old/sub/new"), tars.file(b"old/f")),
        base,
    )
    found = kit.record(layer)
    made = {path: (found[path].mode, found[path].uid) for path in (b"new", b"new/deep", b"old/sub")}
    expected = (oct(stat.S_IFDIR | 0o755), 0)
    expect("directories that were missing", made, dict.fromkeys(made, expected))
    below = found[b"old"]
    expect("a directory of the layer below", (below.mode, below.uid), ("0o40700", 7))
    expect("whether its content is there", b"old/kept" in found, True)


@GROUP.case(see=references.OVER_THE_EXISTING)
def later_of_two_wins(kit: Kit) -> None:
    """Of two entries of one name the later one counts; a repeated directory keeps its content.

    tar --append, and layers that were joined, contain a name twice. All tar programs let the later
    entry win.
    """
    layer = kit.applied(
        tars.tar(
            tars.file(b"file", b"longer than the second"),
            tars.file(b"file", b"second", uid=3),
            tars.directory(b"directory", 0o700),
            tars.file(b"directory/kept"),
            tars.directory(b"directory", 0o711),
            tars.symlink(b"link", b"file"),
            tars.file(b"link", b"no link"),
        )
    )
    found = kit.record(layer)
    expect("names", sorted(found), [b"directory", b"directory/kept", b"file", b"link"])
    expect("content of a file", (found[b"file"].content, found[b"file"].uid), (b"second", 3))
    expect("mode of a directory", found[b"directory"].mode, oct(stat.S_IFDIR | 0o711))
    expect(
        "a file where a link was",
        (found[b"link"].mode, found[b"link"].content[:2]),
        ("0o100644", b"no"),
    )


@GROUP.case(see=references.OVER_THE_EXISTING)
def replaces_the_layer_below(kit: Kit) -> None:
    """An entry replaces what the layer below has there; a directory on a directory merges.

    A directory entry over a directory of the layer below changes its attributes and keeps its
    content. In all other cases the entry replaces what exists.
    """
    base = kit.applied(
        tars.tar(
            tars.file(b"a-directory/in"),
            tars.file(b"a-file", b"old"),
            tars.symlink(b"a-link", b"a-file"),
            tars.directory(b"both", 0o700, uid=4),
            tars.file(b"both/old"),
        )
    )
    layer = kit.applied(
        tars.tar(
            tars.file(b"a-directory", b"file"),
            tars.directory(b"a-file"),
            tars.file(b"a-file/in"),
            tars.file(b"a-link", b"new"),
            tars.directory(b"both", 0o750, uid=5),
            tars.file(b"both/new"),
        ),
        base,
    )
    found = kit.record(layer)
    names = [b"a-directory", b"a-file", b"a-file/in", b"a-link", b"both", b"both/new", b"both/old"]
    expect("names", sorted(found), names)
    expect("a file over a directory", found[b"a-directory"].content, b"file")
    expect(
        "a file over a link",
        (found[b"a-link"].mode, found[b"a-link"].content),
        ("0o100644", b"new"),
    )
    both = found[b"both"]
    expect("a directory over a directory", (both.mode, both.uid), (oct(stat.S_IFDIR | 0o750), 5))


@GROUP.case(see=references.DIALECTS)
def names_are_spelt_in_many_ways(kit: Kit) -> None:
    """Names that begin with ./ or /, or end in /, are the same names; one may be the root itself.

    tar -C directory . writes ./etc/passwd, other programs write etc/passwd or /etc/passwd. Two
    spellings that become two files break the layer.
    """
    layer = kit.applied(
        tars.tar(
            tars.directory(b"./", 0o711),
            tars.directory(b"./a/"),
            tars.file(b"./a/f", b"1"),
            tars.file(b"/a/g", b"2"),
            tars.file(b"a//h", b"3"),
        )
    )
    found = {path: facts.content for path, facts in kit.record(layer).items()}
    expect("names", found, {b"a": b"", b"a/f": b"1", b"a/g": b"2", b"a/h": b"3"})
    with kit.shown(layer) as root:
        expect("mode of the root directory", oct(root.stat().st_mode & 0o7777), oct(0o711))
