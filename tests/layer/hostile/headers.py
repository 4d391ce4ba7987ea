"""Headers that say too much, too little, or two things at once."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack


def a_header_without_end(canary: bytes) -> Attack:
    """CVE-2022-2879: an extended header is kept in memory, however long."""
    return Attack(blow=(tars.header(b"x", b"x", size=1 << 40),), refused="too long")


def a_long_name_without_end(canary: bytes) -> Attack:
    """CVE-2022-2879."""
    return Attack(blow=(tars.header(b"x", b"L", size=1 << 33, magic=tars.GNU),), refused="too long")


def a_header_of_less_than_nothing(canary: bytes) -> Attack:
    return Attack(blow=(tars.header(b"x", b"x", size=-512), tars.file(b"f")), refused="too long")


def global_headers_without_end(canary: bytes) -> Attack:
    """CVE-2022-2879, a piece at a time."""
    told = [tars.pax([(b"SCHILY.xattr.user.%d" % n, b"x" * 60_000)], b"g") for n in range(20)]
    return Attack(blow=(*told, tars.file(b"f")), refused="too long together")


def global_headers_that_each_entry_is_read_with(canary: bytes) -> Attack:
    """Time: a kibibyte of tar for each entry costs as much as a mebibyte of header."""
    records = [(b"SCHILY.xattr.left.out.%d" % n, b"") for n in range(100)]
    return Attack(blow=(tars.pax(records, b"g"), tars.file(b"f")), refused="too long together")


def a_file_smuggled_in_by_its_size(canary: bytes) -> Attack:
    """CVE-2025-62518, CVE-2026-33055: the size in the extended header is the one that counts."""
    smuggled = tars.file(b"smuggled", b"owned")
    blow = (
        tars.pax([(b"size", b"%d" % len(smuggled))]),
        tars.header(b"f", size=512),
        smuggled,
        tars.pax([(b"size", b"%d" % len(smuggled))]),
        tars.header(b"g", size=0),
        smuggled,
    )
    return Attack(blow=blow, leaves={b"f": smuggled, b"g": smuggled, b"smuggled": None})


def a_file_smuggled_in_behind_a_long_name(canary: bytes) -> Attack:
    """CVE-2026-53655: an extended header is the file's, not that of the long name in between."""
    smuggled = tars.file(b"smuggled", b"owned")
    blow = (
        tars.pax([(b"size", b"%d" % len(smuggled))]),
        tars.gnu_long(b"L", b"g"),
        tars.header(b"", size=0),
        smuggled,
    )
    return Attack(blow=blow, leaves={b"g": smuggled, b"smuggled": None})


def a_file_smuggled_in_behind_a_link(canary: bytes) -> Attack:
    """What has no data has none, whatever its size says: else the next header is skipped, or seen."""
    blow = (
        tars.header(b"l", b"2", link=b"x", size=512),
        tars.header(b"d", b"5", size=512),
        tars.pax([(b"size", b"512")]),
        tars.header(b"p", b"6", size=1024),
        tars.file(b"f", b"seen"),
    )
    return Attack(blow=blow, leaves={b"f": b"seen"})


def a_size_for_all_files(canary: bytes) -> Attack:
    """A global size would move every header; the daemon, which reads the same tar, ignores it."""
    blow = (
        tars.pax([(b"size", b"1024"), (b"path", b"../canary/secret")], b"g"),
        tars.file(b"f", b"mine"),
        tars.file(b"g", b"mine"),
    )
    return Attack(blow=blow, leaves={b"f": b"mine", b"g": b"mine", b"canary": None})


def a_name_said_twice(canary: bytes) -> Attack:
    """Readers must agree on which counts: a long name, as the daemon has it."""
    blow = (
        tars.pax([(b"path", b"one")]),
        tars.gnu_long(b"L", b"two"),
        tars.file(b"three", b"mine"),
    )
    return Attack(blow=blow, leaves={b"two": b"mine", b"one": None, b"three": None})


def a_negative_size(canary: bytes) -> Attack:
    return Attack(blow=(tars.header(b"f", size=-1024),), refused="negative size")


def a_negative_size_in_an_extended_header(canary: bytes) -> Attack:
    blow = (tars.pax([(b"size", b"-1024")]), tars.file(b"f"))
    return Attack(blow=blow, refused="is not one of 64 bits|has a negative size")


def a_size_beyond_all(canary: bytes) -> Attack:
    blow = (tars.pax([(b"size", b"9" * 30)]), tars.file(b"f"))
    return Attack(blow=blow, refused="is not one of 64 bits|has a negative size")


def a_size_beyond_64_bits(canary: bytes) -> Attack:
    block = bytearray(tars.header(b"f"))
    block[124:136] = b"\x80\0\1" + bytes(9)
    return Attack(blow=(tars.checked(bytes(block)),), refused="number that is too large")


def a_size_with_underscores(canary: bytes) -> Attack:
    """What int() would take and no tar program does."""
    block = bytearray(tars.header(b"f"))
    block[124:136] = b"0000_0001_0\0"
    return Attack(blow=(tars.checked(bytes(block)),), refused="is not a number")


def a_size_with_a_sign(canary: bytes) -> Attack:
    block = bytearray(tars.header(b"f"))
    block[124:136] = b"-0000000010\0"
    return Attack(blow=(tars.checked(bytes(block)),), refused="is not a number")


def an_owner_of_minus_one(canary: bytes) -> Attack:
    """chown(2) would leave the file to root; who becomes its owner is in `test_pax_numbers`."""
    blow = (tars.file(b"f", uid=0xFFFFFFFF, mode=0o4755),)
    return Attack(blow=blow, leaves={b"f": b"data"})


def an_owner_that_wraps_to_root(canary: bytes) -> Attack:
    """Cut to 32 bits it is 0 (CVE-2024-40635); see `test_pax_numbers`."""
    blow = (tars.pax([(b"uid", b"%d" % (1 << 32))]), tars.file(b"f", mode=0o4755))
    return Attack(blow=blow, leaves={b"f": b"data"})


def an_owner_below_zero(canary: bytes) -> Attack:
    return Attack(blow=(tars.file(b"f", gid=-5),), leaves={b"f": b"data"})


def a_time_that_no_filesystem_keeps(canary: bytes) -> Attack:
    """It is no reason to refuse a layer; one of more than 64 bits is."""
    blow = (tars.pax([(b"mtime", b"9" * 18)]), tars.file(b"f", b"x"))
    return Attack(blow=blow, leaves={b"f": b"x"})


def a_time_of_more_than_64_bits(canary: bytes) -> Attack:
    blow = (tars.pax([(b"mtime", b"9223372036854775808")]), tars.file(b"f"))
    return Attack(blow=blow, refused="is not a number of 64 bits")


def a_number_of_a_million_digits(canary: bytes) -> Attack:
    """To convert it takes time that grows with the square of their count."""
    blow = (tars.pax([(b"uid", b"9" * 1_000_000)]), tars.file(b"f"))
    return Attack(blow=blow, refused="is not one of 64 bits|has a negative size")


def a_time_that_is_no_number(canary: bytes) -> Attack:
    blow = (tars.pax([(b"mtime", b"nan")]), tars.file(b"f"))
    return Attack(blow=blow, refused="time in its extended header is not a number")


def a_record_longer_than_its_header(canary: bytes) -> Attack:
    data = b"99 path=x\n"
    blow = (tars.header(b"x", b"x", size=len(data)), tars.padded(data))
    return Attack(blow=blow, refused="damaged")


def a_record_shorter_than_itself(canary: bytes) -> Attack:
    """A length that ends inside its own digits would make a reader go round in circles."""
    data = b"1 path=x\n"
    blow = (tars.header(b"x", b"x", size=len(data)), tars.padded(data))
    return Attack(blow=blow, refused="damaged")


def a_record_of_length_zero(canary: bytes) -> Attack:
    data = b"0 path=x\n"
    blow = (tars.header(b"x", b"x", size=len(data)), tars.padded(data))
    return Attack(blow=blow, refused="damaged")


def a_record_with_a_sign(canary: bytes) -> Attack:
    data = b"+9 path=x\n"
    blow = (tars.header(b"x", b"x", size=len(data)), tars.padded(data))
    return Attack(blow=blow, refused="damaged")


def a_record_hidden_in_a_value(canary: bytes) -> Attack:
    """A newline in a value does not begin the next record: its length does."""
    value = b"x\n24 path=../canary/secret\n"
    blow = (tars.pax([(b"comment", value)]), tars.file(b"f", b"mine"))
    return Attack(blow=blow, leaves={b"f": b"mine"})


def a_header_for_nothing(canary: bytes) -> Attack:
    return Attack(blow=(tars.pax([(b"path", b"x")]),), refused="ends behind a header")


def a_lone_block_of_zeros(canary: bytes) -> Attack:
    """Some readers end there and some go on."""
    blow = (bytes(512), tars.file(b"f"))
    return Attack(blow=blow, refused="single block of zeros", leaves={b"f": None})


def what_follows_the_end(canary: bytes) -> Attack:
    blow = (tars.file(b"f"), bytes(1024), tars.file(b"smuggled", b"owned"))
    return Attack(blow=blow, leaves={b"smuggled": None})


def padding_without_end(canary: bytes) -> Attack:
    """CVE-2017-14992: what follows the end was kept in memory. A gigabyte: test_memory."""
    return Attack(blow=(tars.file(b"f"), bytes(8 << 20)), leaves={b"f": b"data"})


def a_bomb(canary: bytes) -> Attack:
    """CVE-2017-14992 by its other name: nothing is decompressed here."""
    return Attack(blow=(gzip.compress(bytes(8 << 20)),), refused="no tar at all|header")


def a_compressed_tar(canary: bytes) -> Attack:
    """CVE-2014-9357: a program was run, in the layer, to unpack what is compressed by xz."""
    tar = tars.file(b"f", os.urandom(2000))
    return Attack(blow=(lzma.compress(tar),), refused="no tar at all|header")


def a_compressed_tar_of_another_kind(canary: bytes) -> Attack:
    """CVE-2014-9357, CVE-2026-41567."""
    tar = tars.file(b"f", os.urandom(2000))
    return Attack(blow=(bz2.compress(tar),), refused="no tar at all|header")


def a_type_of_no_layer(canary: bytes) -> Attack:
    return Attack(blow=(tars.header(b"f", b"M", magic=tars.GNU),), refused="no layer holds")


def a_refused_entry_that_is_made_all_the_same(canary: bytes) -> Attack:
    """CVE-2025-4435: what was filtered out was extracted, and the rest as if nothing had been."""
    blow = (
        tars.file(b"before", b"mine"),
        tars.header(b"bad", b"3", device=(4097, 3)),
        tars.file(b"after", b"mine"),
    )
    return Attack(blow=blow, refused="device number", leaves={b"bad": None, b"after": None})


def a_wrong_checksum(canary: bytes) -> Attack:
    block = bytearray(tars.file(b"f", b""))
    block[0] += 1
    return Attack(blow=(bytes(block),), refused="checksum", leaves={b"g": None})
