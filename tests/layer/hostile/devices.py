"""Devices, FIFOs, and what is not content but an order to a kernel that shows the layer."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.write.plain_tree import PlainTree
from tests.layer.hostile.attack import Attack


def a_file_over_a_device(canary: bytes) -> Attack:
    """Whoever opens a name that is there writes to the machine's disk."""
    trap = (tars.header(b"d", b"4", device=(7, 200)), tars.header(b"e", b"3", device=(1, 3)))
    blow = (tars.file(b"d", b"mine"), tars.file(b"e", b"mine"))
    return Attack(trap, blow, leaves={b"d": b"mine", b"e": b"mine"})


def a_file_over_a_fifo(canary: bytes) -> Attack:
    """Whoever opens it waits for ever."""
    trap = (tars.header(b"p", b"6"),)
    return Attack(trap, (tars.file(b"p", b"mine"),), leaves={b"p": b"mine"})


def a_device_on_the_way(canary: bytes) -> Attack:
    blow = (tars.header(b"d", b"4", device=(7, 200)), tars.file(b"d/f", b"owned"))
    return Attack(blow=blow, refused="which is not a directory", leaves={b"d/f": None})


def a_fifo_on_the_way_to_a_target(canary: bytes) -> Attack:
    blow = (tars.header(b"p", b"6"), tars.hard_link(b"h", b"p/f"))
    return Attack(blow=blow, refused="'h'", leaves={b"h": None})


def a_deletion_of_a_device(canary: bytes) -> Attack:
    trap = (tars.header(b"d", b"4", device=(7, 200)), tars.header(b"p", b"6"))
    return Attack(trap, (tars.whiteout(b".wh.d"), tars.whiteout(b".wh.p")))


def a_hard_link_to_a_device(canary: bytes) -> Attack:
    blow = (
        tars.header(b"d", b"4", device=(7, 200)),
        tars.hard_link(b"h", b"d"),
        tars.file(b"h", b"mine"),
    )
    return Attack(blow=blow, leaves={b"h": b"mine"})


def a_device_number_that_wraps(canary: bytes) -> Attack:
    """Cut to 12 bits it would be another device: 4097 is 1, the memory."""
    return Attack(blow=(tars.header(b"c", b"3", device=(4097, 3)),), refused="device number")


def a_device_number_below_zero(canary: bytes) -> Attack:
    return Attack(blow=(tars.header(b"c", b"3", device=(-1, 3)),), refused="device number")


def a_device_number_in_an_extended_header(canary: bytes) -> Attack:
    told = tars.pax([(b"SCHILY.devmajor", b"0"), (b"SCHILY.devminor", b"99999999")])
    return Attack(blow=(told, tars.header(b"c", b"3", device=(5, 5))), refused="device number")


def a_0_0_device(canary: bytes) -> Attack:
    """To overlayfs it is a deletion, which another tool that reads the tar does not see."""
    trap = (tars.file(b"c", b"below"), tars.file(b"d/f", b"below"))
    blow = (tars.header(b"e", b"3"), tars.header(b"d/e", b"3"), tars.header(b"d/e/c", b"3"))
    gone = {b"e": None, b"d/e": b"", b"d/e/c": None}
    return Attack(trap, blow, leaves=gone, forms=(UpperDirectory,))


def a_0_0_device_by_its_extended_header(canary: bytes) -> Attack:
    told = tars.pax([(b"SCHILY.devmajor", b"0"), (b"SCHILY.devminor", b"0")])
    blow = (told, tars.header(b"c", b"3", device=(5, 5)))
    return Attack(blow=blow, leaves={b"c": None}, forms=(UpperDirectory,))


def a_0_0_device_over_a_folder_of_its_own_tar(canary: bytes) -> Attack:
    """What was known of the way through the folder must go with it."""
    blow = (
        tars.directory(b"c"),
        tars.directory(b"c/d"),
        tars.whiteout(b"c/d/.wh.f"),
        tars.header(b"c", b"3"),
        tars.directory(b"c"),
        tars.directory(b"c/d"),
        tars.whiteout(b"c/d/.wh.f"),
        tars.file(b"c/d/g", b"mine"),
    )
    leaves = {b"c/d/f": None, b"c/d/g": b"mine"}
    return Attack((tars.file(b"c/d/f", b"below"),), blow, leaves=leaves, forms=(UpperDirectory,))


def a_0_0_device_in_a_plain_tree(canary: bytes) -> Attack:
    """There it is what it says, and deletes nothing."""
    trap = (tars.file(b"f", b"below"),)
    return Attack(trap, (tars.header(b"c", b"3"),), leaves={b"f": b"below"}, forms=(PlainTree,))


def an_order_to_redirect(canary: bytes) -> Attack:
    """A redirect shows another folder, whatever the mount's options say."""
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.redirect", b"/canary")])
    return Attack(blow=(order, tars.directory(b"d")), leaves={b"d": b""})


def an_order_to_take_content_from_elsewhere(canary: bytes) -> Attack:
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.metacopy", b"")])
    return Attack(blow=(order, tars.file(b"f", b"")), leaves={b"f": b""})


def an_order_to_hide_what_is_below(canary: bytes) -> Attack:
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.opaque", b"y")])
    return Attack((tars.file(b"d/f", b"x"),), (order, tars.directory(b"d")), leaves={b"d/f": b"x"})


def an_order_for_a_deletion_without_a_device(canary: bytes) -> Attack:
    """Since Linux 6.7 an attribute of an empty file does as well."""
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.whiteout", b"")])
    return Attack(blow=(order, tars.file(b"f", b"")), leaves={b"f": b""})


def an_order_that_is_escaped(canary: bytes) -> Attack:
    """Shown through a mount it would be the order itself, and copied from there it would work."""
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.overlay.opaque", b"y")])
    return Attack(blow=(order, tars.directory(b"d")), leaves={b"d": b""})


def an_order_to_a_rootless_overlayfs(canary: bytes) -> Attack:
    order = tars.pax([(b"LIBARCHIVE.xattr.user.overlay.opaque", b"eQ==")])
    return Attack(blow=(order, tars.directory(b"d")), leaves={b"d": b""})


def an_order_whose_name_is_escaped_in_the_tar(canary: bytes) -> Attack:
    order = tars.pax([(b"LIBARCHIVE.xattr.%74rusted%2eoverlay%2Eopaque", b"eQ==")])
    return Attack(blow=(order, tars.directory(b"d")), leaves={b"d": b""})


def an_order_to_overlayfs_for_all(canary: bytes) -> Attack:
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.metacopy", b"")], b"g")
    return Attack(blow=(order, tars.file(b"f", b"x")), leaves={b"f": b"x"})


def an_order_on_the_root(canary: bytes) -> Attack:
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.origin", b"x")])
    return Attack(blow=(order, tars.directory(b".")))


def an_order_on_a_link(canary: bytes) -> Attack:
    order = tars.pax([(b"SCHILY.xattr.trusted.overlay.redirect", b"/canary")])
    return Attack(blow=(order, tars.symlink(b"l", b"x")), leaves={b"l": b"x"})


def an_attribute_too_large_for_any_file(canary: bytes) -> Attack:
    told = tars.pax([(b"SCHILY.xattr.user.large", b"x" * 70_000)])
    return Attack(blow=(told, tars.file(b"f", b"")), refused="user.large")


def an_attribute_of_no_namespace(canary: bytes) -> Attack:
    told = tars.pax([(b"SCHILY.xattr.nonsense", b"x")])
    return Attack(blow=(told, tars.file(b"f", b"x")), leaves={b"f": b"x"})


def a_capability_that_is_none(canary: bytes) -> Attack:
    told = tars.pax([(b"SCHILY.xattr.security.capability", b"\xff" * 20)])
    return Attack(blow=(told, tars.file(b"f", b"")), refused="security.capability")
