"""Modes, owners, times and extended attributes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import CAPABILITY
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.cases.chains import build_at
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("attributes", "modes, owners, times and extended attributes")

_CAPABILITY = "security.capability"


def _passed_on(kit: Kit, layer: str) -> dict[str, str]:
    """Return layers of equal content: the layer, its child, and one made from its Diff."""
    return {
        "the layer": layer,
        "its child": kit.layer(layer),
        "a layer made from its Diff": kit.applied(kit.diff(layer)),
    }


@GROUP.case(see=references.MODES)
def modes(kit: Kit) -> None:
    """Modes are applied, set-ID and sticky bits included, for any owner and umask.

    sudo and su work through their set-user-ID bit, which every later chown clears. A mode that is
    cut by the plugin's umask keeps users out.
    """
    files = {b"f%04o" % mode: mode for mode in (0o4755, 0o2755, 0o6711, 0o1644, 0o666, 0o777, 0)}
    directories = {b"d%04o" % mode: mode for mode in (0o1777, 0o2775, 0o777, 0o555)}
    layer = kit.applied(
        tars.tar(
            *(tars.file(name, mode=mode, uid=33, gid=44) for name, mode in files.items()),
            *(tars.directory(name, mode, uid=33, gid=44) for name, mode in directories.items()),
        )
    )
    expected = {name: oct(stat.S_IFREG | mode) for name, mode in files.items()}
    expected |= {name: oct(stat.S_IFDIR | mode) for name, mode in directories.items()}
    for what, one in _passed_on(kit, layer).items():
        found = {name: facts.mode for name, facts in kit.record(one).items()}
        expect(f"modes in {what}", found, expected)


@GROUP.case(see=references.MODES, required=False)
def directories_keep_their_mode(kit: Kit) -> None:
    """A directory of the image keeps its mode, set-ID bits too, when a container writes into it.

    A directory such as /var/mail has a set-group-ID bit, so that new files get its group. Copying
    the directory up must keep it.
    """
    directories = {b"d%04o" % mode: mode for mode in (0o2775, 0o1777, 0o4711, 0o700)}
    base = kit.applied(
        tars.tar(*(tars.directory(name, mode) for name, mode in directories.items()))
    )

    def write(root: Path) -> None:
        for name in directories:
            (root / os.fsdecode(name) / "new").touch()

    layer = kit.layer(base, write)
    expected = {name: oct(stat.S_IFDIR | mode) for name, mode in directories.items()}
    found = {name: facts.mode for name, facts in kit.record(layer).items() if name in directories}
    expect("modes", found, expected)


@GROUP.case(see=references.LAYERS_TRAVEL)
def owners(kit: Kit) -> None:
    """Numeric owners and groups are applied to every type of entry; owner names are ignored.

    Programs check who owns their files: sshd, sudo and cron refuse files of another owner. The
    names in a tar belong to the machine of its author.
    """
    layer = kit.applied(
        tars.tar(
            tars.file(b"file", uid=1234, gid=4321),
            tars.directory(b"directory", uid=1234, gid=4321),
            tars.symlink(b"link", b"file", uid=1234, gid=4321),
            tars.header(b"device", b"3", device=(1, 3), uid=1234, gid=4321),
        )
    )
    for what, one in _passed_on(kit, layer).items():
        found = {name: (facts.uid, facts.gid) for name, facts in kit.record(one).items()}
        expect(f"owners in {what}", found, dict.fromkeys(found, (1234, 4321)))


@GROUP.case(see=references.CAPABILITIES)
def capabilities(kit: Kit) -> None:
    """A file capability is applied, and is there in a child and in a copy.

    ping, and many a server, works through file capabilities alone. Writing to a file and changing
    its owner both delete them.
    """
    record = (b"SCHILY.xattr.security.capability", CAPABILITY)
    tar = tars.tar(tars.pax([record]), tars.file(b"ping", mode=0o755, uid=7), tars.file(b"no"))
    for what, one in _passed_on(kit, kit.applied(tar)).items():
        found = {name: facts.attributes for name, facts in kit.record(one).items()}
        expect(f"capabilities in {what}", found, {b"ping": {_CAPABILITY: CAPABILITY}, b"no": {}})


@GROUP.case(see=references.CAPABILITIES)
def capability_set_by_a_container(kit: Kit) -> None:
    """A capability that a container sets on a file of its image, or removes, is so in a copy, too.

    RUN setcap in a build changes nothing but this attribute. A Diff that compares only content and
    mode loses it.
    """
    base = kit.layer(fill=build_at)

    def change(root: Path) -> None:
        os.removexattr(root / "bin" / "ping", _CAPABILITY)
        os.setxattr(root / "bin" / "wall", _CAPABILITY, CAPABILITY)

    layer = kit.layer(base, change)
    copy = kit.applied(kit.diff(layer, base), base)
    expect_tree("a layer made from the Diff", kit.record(copy), kit.record(layer))
    found = kit.record(copy)
    attributes = [_CAPABILITY in found[name].attributes for name in (b"bin/ping", b"bin/wall")]
    expect("whether ping, and wall, have a capability", attributes, [False, True])


@GROUP.case(see=references.ATTRIBUTES)
def any_bytes_in_attributes(kit: Kit) -> None:
    """Extended attributes of files and directories are applied, whatever bytes they contain.

    An image may hold extended attributes for the kernel or for its own programs.
    """
    value = bytes(range(256)) + b"\n=\n"
    record = tars.pax([(b"SCHILY.xattr.trusted.note", value)])
    layer = kit.applied(tars.tar(record, tars.file(b"file"), record, tars.directory(b"directory")))
    for what, one in _passed_on(kit, layer).items():
        found = {name: facts.attributes for name, facts in kit.record(one).items()}
        expected = {name: {"trusted.note": value} for name in (b"file", b"directory")}
        expect(f"attributes in {what}", found, expected)


@GROUP.case(see=references.OVER_THE_EXISTING, required=False)
def directory_over_a_directory(kit: Kit) -> None:
    """A directory over one of the layer below has only the extended attributes of its own entry.

    The entry describes the directory completely. An attribute that stays from below, for example an
    ACL, would give access that the image's author took away.
    """
    old = tars.pax([(b"SCHILY.xattr.trusted.old", b"1")])
    new = tars.pax([(b"SCHILY.xattr.trusted.new", b"2")])
    base = kit.applied(tars.tar(old, tars.directory(b"d")))
    layer = kit.applied(tars.tar(new, tars.directory(b"d")), base)
    expect("attributes", kit.record(layer)[b"d"].attributes, {"trusted.new": b"2"})


@GROUP.case(see=references.TIMES, required=False)
def times_to_the_nanosecond(kit: Kit) -> None:
    """Times in PAX headers are applied to the nanosecond, to all types, also before 1970.

    Compiler caches compare times to the nanosecond. A build step that finds times other than those
    that the step before wrote does its work again.
    """
    times = {b"1234567890.123456789": 1_234_567_890_123_456_789, b"-1.5": -1_500_000_000}
    entries: list[bytes] = []
    expected: dict[bytes, int] = {}
    for number, (text, nanoseconds) in enumerate(times.items()):
        header = tars.pax([(b"mtime", text)])
        entries += [header, tars.file(b"f%d" % number), header, tars.directory(b"d%d" % number)]
        entries += [header, tars.symlink(b"l%d" % number, b"x")]
        expected |= {name + b"%d" % number: nanoseconds for name in (b"f", b"d", b"l")}
    for what, one in _passed_on(kit, kit.applied(tars.tar(*entries))).items():
        found = {name: facts.mtime_ns for name, facts in kit.record(one).items()}
        expect(f"times in {what}", found, expected)


@GROUP.case(see=references.TIMES_OF_DIRECTORIES)
def directories_have_the_time_of_their_entry(kit: Kit) -> None:
    """A directory has its entry's time, whatever entries follow in it.

    Writing into a directory changes its time, after its own entry was read. A plugin must set the
    times of directories at the end.
    """
    base = kit.applied(tars.tar(tars.directory(b"d", mtime=3), tars.file(b"d/gone")))
    layer = kit.applied(
        tars.tar(
            tars.directory(b"d", mtime=5),
            tars.directory(b"d/e", mtime=6),
            tars.file(b"d/e/file"),
            tars.whiteout(b"d/.wh.gone"),
            tars.hard_link(b"d/link", b"d/e/file"),
        ),
        base,
    )
    found = kit.record(layer)
    times = {name: found[name].mtime_ns // 10**9 for name in (b"d", b"d/e")}
    expect("times of directories, in seconds", times, {b"d": 5, b"d/e": 6})


@GROUP.case(see=references.TIMES_OF_DIRECTORIES, required=False)
def directory_without_an_entry_keeps_its_time(kit: Kit) -> None:
    """A directory of the layer below keeps its time when a tar only writes into it.

    A layer that adds one file need not name the directory. The directory's time is then that of the
    layer below, and a rebuild gives the same digest.
    """
    base = kit.applied(tars.tar(tars.directory(b"d", mtime=3)))
    layer = kit.applied(tars.tar(tars.file(b"d/new")), base)
    expect("its time, in seconds", kit.record(layer)[b"d"].mtime_ns // 10**9, 3)
