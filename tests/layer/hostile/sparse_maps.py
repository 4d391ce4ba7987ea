"""Maps of sparse files: how much, where, and how much of it."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_sparse_map_without_end(canary: bytes) -> Attack:
    """CVE-2025-58183: version 1.0 keeps its map in front of the data, as long as it says."""
    told = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    told.append((b"GNU.sparse.realsize", b"99999999999"))
    text = b"99999999\n" + b"0\n0\n" * 1_000_000
    return Attack(blow=(tars.pax(told), tars.file(b"f", text)), refused="holes is damaged")


def a_sparse_map_longer_than_any_header_may_be(canary: bytes) -> Attack:
    """CVE-2025-58183: all of it is right, and two mebibytes."""
    pairs = 150_000
    told = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    told.append((b"GNU.sparse.realsize", b"%d" % (2 * pairs)))
    numbers = b"".join(b"%d\n1\n" % (2 * pair) for pair in range(pairs))
    text = tars.padded(b"%d\n%b" % (pairs, numbers))
    blow = (tars.pax(told), tars.file(b"f", text + b"x" * pairs))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_of_one_endless_line(canary: bytes) -> Attack:
    """CVE-2025-58183."""
    told = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    blow = (tars.pax(told), tars.file(b"f", b"1" * 3_000_000))
    return Attack(blow=blow, refused="holes is damaged")


def an_old_sparse_map_without_end(canary: bytes) -> Attack:
    """CVE-2025-58183 in the old format."""
    block = bytearray(tars.header(b"f", b"S", magic=tars.GNU))
    block[482] = 1
    extension = (b"%011o\0" % 0 * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    blow = (tars.checked(bytes(block)), extension * 4000)
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_that_overlaps(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.map", b"0,512,100,512"), (b"GNU.sparse.size", b"9999")]
    blow = (tars.pax(told), tars.file(b"f", b"x" * 1024))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_past_the_end(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.map", b"100,512"), (b"GNU.sparse.size", b"600")]
    blow = (tars.pax(told), tars.file(b"f", b"x" * 512))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_that_wraps(canary: bytes) -> Attack:
    """Offset and length together are more than 64 bits hold."""
    told = [(b"GNU.sparse.map", b"%d,512" % ((1 << 63) - 1)), (b"GNU.sparse.size", b"600")]
    blow = (tars.pax(told), tars.file(b"f", b"x" * 512))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_for_less_than_the_tar_holds(canary: bytes) -> Attack:
    """What is left of the data would be read as headers."""
    told = [(b"GNU.sparse.map", b"0,10"), (b"GNU.sparse.size", b"600")]
    blow = (tars.pax(told), tars.file(b"f", tars.file(b"smuggled")))
    return Attack(blow=blow, refused="holes is damaged", leaves={b"smuggled": None})


def a_sparse_map_for_more_than_the_tar_holds(canary: bytes) -> Attack:
    """The next headers would be read as data."""
    told = [(b"GNU.sparse.map", b"0,2048"), (b"GNU.sparse.size", b"2048")]
    blow = (tars.pax(told), tars.file(b"f", b"x"), tars.file(b"g"))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_of_one_number(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.map", b"0"), (b"GNU.sparse.size", b"600")]
    blow = (tars.pax(told), tars.file(b"f", b""))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_map_in_the_wrong_order(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.numbytes", b"1"), (b"GNU.sparse.offset", b"0")]
    blow = (tars.pax(told), tars.file(b"f", b"x"))
    return Attack(blow=blow, refused="holes is damaged")


def a_sparse_version_of_the_future(canary: bytes) -> Attack:
    """Who does not know it would take the map for content, or content for the map."""
    told = [(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")]
    return Attack(blow=(tars.pax(told), tars.file(b"f", b"x")), refused="version")


def a_sparse_folder(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.map", b"0,0"), (b"GNU.sparse.size", b"1")]
    return Attack(blow=(tars.pax(told), tars.directory(b"d")), refused="not a regular file")


def a_hole_larger_than_any_disk(canary: bytes) -> Attack:
    told = [(b"GNU.sparse.map", b""), (b"GNU.sparse.size", b"%d" % ((1 << 63) - 1))]
    return Attack(blow=(tars.pax(told), tars.file(b"f", b"")), refused="'f'")
