"""Names that lead somewhere else by themselves."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_name_that_climbs(canary: bytes) -> Attack:
    """The oldest of all (CVE-2007-4559 and hundreds more)."""
    return Attack(blow=(tars.file(b"../canary/secret", b"owned"),), refused="climbs above")


def a_name_that_climbs_after_going_down(canary: bytes) -> Attack:
    blow = (tars.directory(b"a"), tars.file(b"a/../../canary/new"))
    return Attack(blow=blow, refused="climbs above", leaves={b"canary": None})


def a_name_that_climbs_in_an_extended_header(canary: bytes) -> Attack:
    blow = (tars.pax([(b"path", b"../canary/secret")]), tars.file(b"harmless", b"owned"))
    return Attack(blow=blow, refused="climbs above", leaves={b"harmless": None})


def a_name_that_climbs_in_the_prefix(canary: bytes) -> Attack:
    blow = (tars.header(b"secret", size=0, prefix=b"../canary"),)
    return Attack(blow=blow, refused="climbs above")


def a_name_that_climbs_in_a_sparse_files_header(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.map", b""), (b"GNU.sparse.size", b"0")]
    told.append((b"GNU.sparse.name", b"../canary/secret"))
    return Attack(blow=(tars.pax(told), tars.file(b"f", b"")), refused="climbs above")


def a_folder_that_climbs(canary: bytes) -> Attack:
    return Attack(
        blow=(tars.directory(b"../canary/", mode=0o777, uid=666),), refused="climbs above"
    )


def a_name_that_climbs_but_not_out_of_the_layer(canary: bytes) -> Attack:
    """Cleaned by its letters: ``l/..`` is the root whatever ``l`` is."""
    trap = (tars.symlink(b"l", b"/canary/folder"),)
    blow = (tars.file(b"l/../secret", b"mine"),)
    return Attack(trap, blow, leaves={b"secret": b"mine", b"canary": None})


def an_absolute_name(canary: bytes) -> Attack:
    blow = (tars.gnu_long(b"L", canary + b"/secret"), tars.file(b"", b"owned"))
    return Attack(blow=blow, leaves={canary[1:] + b"/secret": b"owned"})


def an_absolute_name_that_climbs(canary: bytes) -> Attack:
    return Attack(blow=(tars.file(b"/../canary/secret"),), refused="climbs above")


def a_name_with_a_nul(canary: bytes) -> Attack:
    """What is checked is longer than what the kernel sees."""
    blow = (tars.pax([(b"path", b"../canary/secret\0/../../ok")]), tars.file(b"f"))
    return Attack(blow=blow, refused="NUL", leaves={b"f": None})


def a_link_with_a_nul(canary: bytes) -> Attack:
    blow = (tars.pax([(b"linkpath", b"../canary/secret\0ok")]), tars.symlink(b"l", b"x"))
    return Attack(blow=blow, refused="NUL", leaves={b"l": None})


def a_name_that_goes_down_without_end(canary: bytes) -> Attack:
    return Attack(
        blow=(tars.gnu_long(b"L", b"a/" * 500_000), tars.directory(b"")), refused="goes down"
    )


def a_part_of_a_name_too_long_for_any_filesystem(canary: bytes) -> Attack:
    return Attack(blow=(tars.gnu_long(b"L", b"n" * 300), tars.file(b"")), refused="(?i:too long)")


def a_name_of_nothing_but_dots_and_slashes(canary: bytes) -> Attack:
    return Attack(blow=(tars.file(b"d/..///.//", b"owned"),), refused="root cannot be")


def a_file_in_what_is_called_like_a_whiteout(canary: bytes) -> Attack:
    """Who reads the layer from its tar sees a deletion where there is none."""
    return Attack(blow=(tars.file(b".wh.d/f"),), refused="called like a whiteout")


def a_name_of_many_lines_for_whoever_reads_the_error(canary: bytes) -> Attack:
    name = b"n\n\x1b[31m" * 3000 + b"/../../x"
    blow = (tars.gnu_long(b"L", name), tars.file(b""))
    return Attack(blow=blow, refused="climbs above")
