"""Hard links: second names of what the layer has no business with."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_hard_link_outside(canary: bytes) -> Attack:
    """CVE-2025-4330, CVE-2014-9356: a second name of a file outside, written to afterwards."""
    blow = (tars.hard_link(b"h", b"../canary/secret"), tars.file(b"h", b"owned"))
    return Attack(blow=blow, refused="climbs above", leaves={b"h": None})


def a_hard_link_outside_absolute(canary: bytes) -> Attack:
    blow = (tars.gnu_long(b"K", canary + b"/secret"), tars.hard_link(b"h", b""))
    return Attack(blow=blow, refused="not there", leaves={b"h": None})


def a_hard_link_in_an_extended_header(canary: bytes) -> Attack:
    blow = (tars.pax([(b"linkpath", b"../canary/secret")]), tars.hard_link(b"h", b"harmless"))
    return Attack(blow=blow, refused="climbs above", leaves={b"h": None})


def a_hard_link_through_a_link(canary: bytes) -> Attack:
    trap = (tars.symlink(b"l", b"../canary"),)
    blow = (tars.hard_link(b"h", b"l/secret"),)
    return Attack(trap, blow, refused="not there", leaves={b"h": None})


def a_hard_link_through_links_that_are_harmless_one_by_one(canary: bytes) -> Attack:
    """CVE-2026-26960: a target is checked by its letters, and found through links."""
    trap = (
        tars.directory(b"a/b/c"),
        tars.symlink(b"a/b/c/up", b"../.."),
        tars.symlink(b"a/b/escape", b"c/up/../.."),
    )
    blow = (tars.hard_link(b"h", b"a/b/escape/canary/secret"),)
    return Attack(trap, blow, refused="not there", leaves={b"h": None})


def a_hard_link_to_a_link_then_its_metadata(canary: bytes) -> Attack:
    """CVE-2021-32760, CVE-2025-4138: a mode set through a second name of a link."""
    trap = (tars.symlink(b"l", b"../canary/secret"),)
    blow = (tars.header(b"h", b"1", mode=0o4777, uid=666, link=b"l"), tars.file(b"h", b"owned"))
    return Attack(trap, blow, leaves={b"h": b"owned"})


def a_hard_link_to_a_link_of_the_same_layer(canary: bytes) -> Attack:
    """CVE-2021-32760 in one tar."""
    blow = (
        tars.symlink(b"l", b"../canary/secret"),
        tars.header(b"h", b"1", mode=0o4777, uid=666, link=b"l"),
        tars.file(b"l", b"owned"),
    )
    return Attack(blow=blow, leaves={b"l": b"owned"})


def a_hard_link_to_a_deeper_link(canary: bytes) -> Attack:
    """CVE-2026-11940: a link that is harmless where it stands, under a name further up."""
    blow = (
        tars.symlink(b"a/b/l", b"../../canary/secret"),
        tars.hard_link(b"h", b"a/b/l"),
        tars.symlink(b"a/b/m", b"../../canary"),
        tars.hard_link(b"g", b"a/b/m"),
        tars.file(b"g/secret", b"owned"),
    )
    return Attack(blow=blow, leaves={b"canary/secret": b"owned"})


def a_waiting_hard_link_through_a_link(canary: bytes) -> Attack:
    blow = (tars.hard_link(b"h", b"l/secret"), tars.symlink(b"l", b"../canary"))
    return Attack(blow=blow, refused="not there", leaves={b"h": None})


def a_waiting_hard_link_whose_folder_becomes_a_link(canary: bytes) -> Attack:
    """CVE-2025-47290 of its own kind: the link is made at the end, in another world."""
    blow = (
        tars.hard_link(b"d/secret", b"f"),
        tars.symlink(b"d", b"../canary"),
        tars.file(b"f", b"mine"),
    )
    return Attack(blow=blow, leaves={b"canary/secret": b"mine"})


def a_hard_link_to_a_file_of_below_then_a_write(canary: bytes) -> Attack:
    """What shares an inode with the layer below must not be written to."""
    trap = (tars.file(b"a", b"old"),)
    blow = (tars.hard_link(b"h", b"a"), tars.file(b"h", b"owned", mode=0o777))
    return Attack(trap, blow, leaves={b"a": b"old", b"h": b"owned"})


def a_hard_link_to_a_folder(canary: bytes) -> Attack:
    blow = (tars.directory(b"d"), tars.hard_link(b"h", b"d"))
    return Attack(blow=blow, refused="hard link to a directory")


def a_hard_link_to_the_root(canary: bytes) -> Attack:
    return Attack(blow=(tars.hard_link(b"h", b"/"),), refused="hard link to the layer's root")


def links_with_long_names_that_wait(canary: bytes) -> Attack:
    blow = []
    for n in range(20):
        name = b"/".join([b"n" * 255] * 2000)
        blow += [
            tars.gnu_long(b"L", b"h%d" % n),
            tars.gnu_long(b"K", name),
            tars.hard_link(b"", b""),
        ]
    return Attack(blow=tuple(blow), refused="too many hard links")
