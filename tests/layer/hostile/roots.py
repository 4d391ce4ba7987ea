"""Entries for the layer's root itself."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_root_that_is_a_link(canary: bytes) -> Attack:
    """CVE-2021-29136: the root is replaced, and all else goes through it."""
    blow = (tars.symlink(b".", b"../canary"), tars.file(b"secret", b"owned"))
    return Attack(blow=blow, refused="root cannot be", leaves={b"secret": None})


def a_root_that_is_a_link_by_an_absolute_name(canary: bytes) -> Attack:
    blow = (tars.symlink(b"/", b"../canary"), tars.file(b"secret", b"owned"))
    return Attack(blow=blow, refused="root cannot be", leaves={b"secret": None})


def a_root_that_is_a_link_by_a_roundabout_name(canary: bytes) -> Attack:
    blow = (tars.symlink(b"a/../.", b"../canary"), tars.file(b"secret", b"owned"))
    return Attack(blow=blow, refused="root cannot be", leaves={b"secret": None})


def a_root_without_a_name(canary: bytes) -> Attack:
    return Attack(blow=(tars.symlink(b"", b"../canary"),), refused="root cannot be")


def a_root_that_is_a_file(canary: bytes) -> Attack:
    return Attack(blow=(tars.file(b"./", b"owned"),), refused="root cannot be")


def a_root_that_is_a_device(canary: bytes) -> Attack:
    return Attack(blow=(tars.header(b"/", b"3", device=(1, 3)),), refused="root cannot be")


def a_root_that_is_a_hard_link(canary: bytes) -> Attack:
    return Attack((tars.file(b"f"),), (tars.hard_link(b"./.", b"f"),), refused="root cannot be")


def a_root_that_climbs(canary: bytes) -> Attack:
    return Attack(blow=(tars.directory(b"..", mode=0o777),), refused="climbs above")


def a_root_that_a_whiteout_deletes(canary: bytes) -> Attack:
    return Attack(blow=(tars.whiteout(b".wh.."),), refused="without a name")
