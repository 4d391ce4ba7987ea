"""Symbolic links on the way to something, or in its place."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_link_on_the_way_absolute(canary: bytes) -> Attack:
    """CVE-2014-9356: writing through a link out of the layer."""
    trap = (tars.gnu_long(b"K", canary), tars.symlink(b"l", b""))
    inside = {canary[1:] + b"/secret": b"owned"}
    return Attack(trap, (tars.file(b"l/secret", b"owned"),), leaves=inside)


def a_link_on_the_way_relative(canary: bytes) -> Attack:
    trap = (tars.symlink(b"l", b"../canary"),)
    blow = (tars.file(b"l/secret", b"owned"),)
    return Attack(trap, blow, leaves={b"canary/secret": b"owned"})


def a_link_on_the_way_through_proc(canary: bytes) -> Attack:
    trap = (tars.symlink(b"l", b"/proc/self/root"), tars.symlink(b"m", b"/proc/self/cwd"))
    blow = (tars.file(b"l" + canary + b"/secret", b"owned"), tars.file(b"m/x", b"owned"))
    return Attack(trap, blow, leaves={b"proc/self/root" + canary + b"/secret": b"owned"})


def a_link_that_is_written_through_in_its_own_tar(canary: bytes) -> Attack:
    """CVE-2018-20990, CVE-2026-17106: a link, then an entry below it, in one layer."""
    blow = (
        tars.symlink(b"d", b"../canary"),
        tars.file(b"d/secret", b"owned"),
        tars.directory(b"d/folder", mode=0o777, uid=666),
        tars.whiteout(b"d/.wh.link"),
    )
    return Attack(blow=blow, leaves={b"canary/secret": b"owned"})


def links_that_are_harmless_one_by_one(canary: bytes) -> Attack:
    """CVE-2026-17106, CVE-2026-26960: each stays inside by its letters, together they climb."""
    trap = (
        tars.directory(b"a/b/c"),
        tars.symlink(b"a/b/c/up", b"../.."),
        tars.symlink(b"a/b/escape", b"c/up/../.."),
    )
    blow = (tars.file(b"a/b/escape/canary/secret", b"owned"),)
    return Attack(trap, blow, leaves={b"canary/secret": b"owned"})


def a_link_of_the_files_own_name(canary: bytes) -> Attack:
    """CVE-2018-15664 without the race: the last name is a link."""
    trap = (tars.symlink(b"f", b"../canary/secret"),)
    blow = (tars.file(b"f", b"owned", mode=0o4777),)
    return Attack(trap, blow, leaves={b"f": b"owned"})


def a_link_in_place_of_every_kind_of_entry(canary: bytes) -> Attack:
    trap = tuple(tars.symlink(b"%d" % n, b"../canary/secret") for n in range(6))
    blow = (
        tars.symlink(b"0", b"elsewhere"),
        tars.header(b"1", b"3", device=(1, 3), mode=0o777, uid=666),
        tars.header(b"2", b"4", device=(7, 3), mode=0o777, uid=666),
        tars.header(b"3", b"6", mode=0o777, uid=666),
        tars.directory(b"4", mode=0o777, uid=666),
        tars.file(b"5", b"mine", mode=0o777, uid=666),
    )
    return Attack(trap, blow, leaves={b"5": b"mine"})


def a_folder_over_a_link_to_a_folder(canary: bytes) -> Attack:
    """CVE-2024-12718: the mode, owner and time of a folder outside."""
    trap = (tars.symlink(b"d", b"../canary/folder"),)
    return Attack(trap, (tars.directory(b"d", mode=0o777, uid=666, mtime=1),))


def a_link_that_gets_the_metadata_of_its_target(canary: bytes) -> Attack:
    told = tars.pax([(b"SCHILY.xattr.trusted.owned", b"yes")])
    return Attack(blow=(told, tars.symlink(b"s", b"../canary/secret", uid=666, mtime=1)))


def a_folder_replaced_after_it_was_looked_up(canary: bytes) -> Attack:
    """CVE-2025-47290, CVE-2018-15664: the parent of the last entry becomes a link."""
    blow = (
        tars.file(b"d/e/one"),
        tars.symlink(b"d", b"../canary"),
        tars.file(b"d/secret", b"owned"),
        tars.file(b"d/folder/file", b"owned"),
    )
    inside = {b"canary/secret": b"owned", b"canary/folder/file": b"owned"}
    return Attack(blow=blow, leaves=inside)


def the_folder_that_is_written_to_replaced(canary: bytes) -> Attack:
    """CVE-2025-47290: the very folder that the last entry was made in."""
    blow = (
        tars.file(b"d/secret", b"one"),
        tars.symlink(b"d", b"../canary"),
        tars.file(b"d/secret", b"owned"),
    )
    return Attack(blow=blow, leaves={b"canary/secret": b"owned"})


def a_folder_deleted_after_it_was_looked_up(canary: bytes) -> Attack:
    trap = (tars.file(b"d/e/old"),)
    blow = (
        tars.whiteout(b"d/e/.wh.old"),
        tars.whiteout(b".wh.d"),
        tars.symlink(b"d", b"../canary"),
        tars.file(b"d/e/secret", b"owned"),
    )
    return Attack(trap, blow, leaves={b"canary/e/secret": b"owned"})


def a_link_replaced_that_led_to_itself(canary: bytes) -> Attack:
    """CVE-2025-47290: what is replaced is on the way to the folder that it is in."""
    trap = (
        tars.directory(b"d/e"),
        tars.directory(b"z"),
        tars.symlink(b"d/s", b"/d/e"),
        tars.symlink(b"l", b"d/s/.."),
    )
    blow = (tars.file(b"l/one", b"1"), tars.symlink(b"l/s", b"/z"), tars.file(b"l/two", b"2"))
    return Attack(trap, blow, leaves={b"d/one": b"1", b"two": b"2", b"d/two": None})


def a_way_too_long_to_be_checked(canary: bytes) -> Attack:
    """CVE-2025-4517, CVE-2025-4138: links whose path is too long for whoever resolves strings."""
    name = b"d" * 247
    way = b""
    trap = []
    for letter in b"abcdefghijklmnop":
        trap += [tars.gnu_long(b"L", way + name), tars.directory(b"")]
        trap += [
            tars.gnu_long(b"L", way + bytes([letter])),
            tars.gnu_long(b"K", name),
            tars.symlink(b"", b""),
        ]
        way += name + b"/"
    short = b"/".join(bytes([letter]) for letter in b"abcdefghijklmnop")
    trap += [
        tars.gnu_long(b"L", short + b"/" + b"l" * 254),
        tars.symlink(b"", b"../" * 17),
        tars.gnu_long(b"K", short + b"/" + b"l" * 254 + b"/../canary"),
        tars.symlink(b"escape", b""),
    ]
    return Attack(tuple(trap), (tars.file(b"escape/secret", b"owned"),))


def a_link_longer_than_a_path(canary: bytes) -> Attack:
    blow = (tars.gnu_long(b"K", b"../canary/" * 1000), tars.symlink(b"l", b""))
    return Attack(blow=blow, refused="(?i:too long)")


def a_link_to_nothing(canary: bytes) -> Attack:
    return Attack(blow=(tars.symlink(b"l", b""),), refused="'l'")


def a_link_to_itself_on_the_way(canary: bytes) -> Attack:
    blow = (tars.symlink(b"l", b"l"), tars.file(b"l/f"))
    return Attack(blow=blow, refused="(?i:symbolic links)")


def links_that_multiply(canary: bytes) -> Attack:
    blow = [tars.symlink(b"l0", b".")]
    blow += [tars.symlink(b"l%d" % n, b"/".join([b"l%d" % (n - 1)] * 12)) for n in range(1, 30)]
    return Attack(blow=(*blow, tars.file(b"l29/f")), refused="l29/f.*(?i:symbolic links)")


def a_link_that_goes_in_and_out_at_length(canary: bytes) -> Attack:
    deep = b"/".join([b"d"] * 3000)
    blow = [tars.gnu_long(b"L", deep + b"/x/f"), tars.file(b"")]
    blow += [tars.gnu_long(b"K", b"x/.." + b"/x/.." * 800), tars.gnu_long(b"L", deep + b"/l")]
    blow += [tars.symlink(b"", b"")]
    blow += [tars.gnu_long(b"L", deep + b"/l/new/f"), tars.file(b"")]
    return Attack(blow=tuple(blow), refused="(?i:symbolic links)")
