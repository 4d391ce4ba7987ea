"""Deletions of what is not the layer's."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_whiteout_that_climbs(canary: bytes) -> Attack:
    return Attack(blow=(tars.whiteout(b"../canary/.wh.secret"),), refused="climbs above")


def a_whiteout_of_the_folder_above(canary: bytes) -> Attack:
    return Attack(blow=(tars.whiteout(b".wh..."),), refused="without a name")


def a_whiteout_of_no_name(canary: bytes) -> Attack:
    return Attack(blow=(tars.whiteout(b"d/.wh."),), refused="without a name")


def a_whiteout_through_a_link(canary: bytes) -> Attack:
    return Attack((tars.symlink(b"l", b"../canary"),), (tars.whiteout(b"l/.wh.secret"),))


def a_whiteout_of_a_link_to_a_folder(canary: bytes) -> Attack:
    trap = (tars.symlink(b"l", b"../canary"),)
    return Attack(trap, (tars.whiteout(b".wh.l"),))


def an_opaque_mark_through_a_link(canary: bytes) -> Attack:
    return Attack((tars.symlink(b"l", b"../canary"),), (tars.whiteout(b"l/.wh..wh..opq"),))


def an_opaque_mark_through_a_link_of_its_own_tar(canary: bytes) -> Attack:
    blow = (tars.symlink(b"l", b"../canary"), tars.whiteout(b"l/.wh..wh..opq"))
    return Attack(blow=blow)


def an_opaque_mark_over_links(canary: bytes) -> Attack:
    """Removing follows no link."""
    trap = (tars.directory(b"d"), tars.symlink(b"d/l", b"../../canary"))
    return Attack(trap, (tars.whiteout(b"d/.wh..wh..opq"),))


def a_file_over_a_folder_with_links(canary: bytes) -> Attack:
    trap = (tars.directory(b"d"), tars.symlink(b"d/l", b"../../canary"))
    return Attack(trap, (tars.file(b"d", b"file"),), leaves={b"d": b"file"})


def an_opaque_mark_that_is_a_link(canary: bytes) -> Attack:
    """Whatever type a mark has, only its name counts."""
    trap = (tars.file(b"d/f"),)
    blow = (
        tars.symlink(b"d/.wh..wh..opq", b"../../canary"),
        tars.header(b"d/.wh.f", b"3", device=(1, 3)),
    )
    return Attack(trap, blow, leaves={b"d/.wh..wh..opq": None, b"d/.wh.f": None})


def a_whiteout_with_content(canary: bytes) -> Attack:
    smuggled = tars.file(b"smuggled", b"owned")
    blow = (tars.file(b".wh.f", smuggled), tars.file(b"g", b"mine"))
    return Attack(blow=blow, leaves={b"g": b"mine", b"smuggled": None, b".wh.f": None})


def aufs_targets_that_are_a_link(canary: bytes) -> Attack:
    trap = (tars.symlink(b".wh..wh.plnk", b"../canary"),)
    blow = (
        tars.file(b".wh..wh.plnk/secret", b"owned"),
        tars.hard_link(b"h", b".wh..wh.plnk/secret"),
    )
    return Attack(trap, blow, leaves={b"h": b"owned", b"canary": None})
