"""Where GNU tar 1.34 and bsdtar 3.6.2 may read a tar otherwise than we do: all of it, with reasons.

`tests.layer.test_oracles` fails on any other difference, and on one listed here that does not occur
any more. Two readers that differ about one tar are a way in (CVE-2025-62518), so the daemon's reading
counts, which has the same tar and reads it with Go's ``archive/tar``: what that refuses, or reads
otherwise than these two, is what we do. Beyond that we refuse what no layer can hold.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One kind of difference.

    Attributes:
        what: a regular expression for what `test_oracles.first_difference` says, after the oracle's
            name.
        reason: why we are right, or why it does not matter.
    """

    what: str
    reason: str


_WHERE = r"(at the first entry|after '.*'(\.\.\.)?)"

ALLOWED = (
    # What we refuse and they take.
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: a single block of zeros stands between entries",
        "they end at the first block of zeros, or go on behind it; Go refuses it as we do",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: the global headers are too long together",
        "each entry is read with them: a layer of many entries would keep the plugin busy for hours",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: '.*' has a device number that Linux cannot have",
        "they would cut it to another device's number",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: '.*' is of type '.*', which no layer holds",
        "they extract unknown types as files; a multi-volume or dump entry is no layer's",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: a numeric header field is not a number",
        "they warn, or read what digits there are; Go refuses it as we do",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: its extended header has a name with a NUL",
        "they cut the name there, so that it is another name than was checked; Go refuses it",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: its extended header is damaged",
        "they leave out what they cannot read of it, with a warning at most; Go refuses it",
    ),
    Difference(
        rf"bsdtar: we refuse: {_WHERE}: (a number|the time) in its extended header"
        r" is not (one|a number) of 64 bits",
        "bsdtar takes what digits there are; Go refuses it",
    ),
    Difference(
        rf"(bsd)?tar: we refuse: {_WHERE}: the map of its holes is damaged",
        "they read a map as far as it goes, or none; Go refuses it",
    ),
    Difference(
        r"bsdtar: we refuse: at the first entry: a header's checksum is wrong: .*",
        "bsdtar unpacks what is compressed; a layer's tar is not",
    ),
    Difference(
        r"bsdtar: we refuse: after '\./\./@LongLink': a header's checksum is wrong: .*",
        "a FIFO that has a size: to bsdtar data follows; to Go none does",
    ),
    Difference(
        rf"tar: we refuse: {_WHERE}: the tar ends behind a header that describes the next entry",
        "GNU tar forgets the header; a tar that ends there was cut",
    ),
    Difference(
        rf"tar: we refuse: {_WHERE}: a header's checksum is wrong: .*",
        "the entry before is no file and yet has a size: to GNU tar data follows; to Go none does",
    ),
    # What both take, each in its way.
    Difference(
        r"tar: [\w ]+: [ug]id (-[0-9]+|[0-9]{10,}), theirs [0-9]+",
        "it cuts an owner that Linux cannot have to another one; ours belongs to nobody",
    ),
    # What they refuse and we take.
    Difference(
        r"bsdtar: they refuse: bsdtar: .*: archive_write_pax_header: 'x' header failed\?!.*",
        "bsdtar reads a negative owner, but cannot write it, which is how it is asked; Go takes it",
    ),
    Difference(
        r"bsdtar: they refuse: bsdtar: Error reading archive -: Damaged tar archive.*",
        "the entry before is no file and yet has a size: to bsdtar data follows; to Go none does",
    ),
    Difference(
        r"bsdtar: they refuse: .* (Tar entry has negative size|Tar entry size overflow).*",
        "the size of what is no file, which is not looked at here",
    ),
    Difference(
        r"bsdtar: they refuse: .*(can't be converted from UTF-8|Can't translate \w+ '.*' to UTF-8).*",
        "bsdtar cannot write a name that is no UTF-8 and too long for ustar; a file can have it",
    ),
    Difference(
        r"bsdtar: they refuse: .* Ignoring malformed pax extended attribute.*",
        "two PAX headers for one file: to Go the second counts",
    ),
    Difference(
        r"bsdtar: they refuse: bsdtar: Unrecognized archive format.*",
        "bsdtar guesses what is a tar from the first header, and a field there is odd",
    ),
    Difference(
        r"bsdtar: they refuse: tarfile cannot read it: unexpected end of data.*",
        "a file of terabytes that is all hole, of which bsdtar writes every byte: cut by the test",
    ),
    Difference(
        r"tar: they refuse: tar: Malformed extended header: (excess|invalid) GNU\.sparse\.map=.*",
        "GNU tar wants to be told the number of ranges first, or will have none empty",
    ),
    # What is read otherwise.
    Difference(
        r"(bsd)?tar: (hard link|file): kind '(hard link|file)', theirs 'folder'",
        "a slash at the end of a file's name makes it a folder to them; to Go in v7 tars alone",
    ),
    Difference(
        r"(bsd)?tar: file: name b'.*', theirs b'one'",
        "a name said by a PAX header and by GNU's long name: Go takes the second, as we do",
    ),
    Difference(
        r"tar: (file|folder|link|hard link): name b'.*', theirs b'\.\./canary/secret'",
        "a PAX header for all names every file to GNU tar; Go ignores it, as we do",
    ),
    Difference(
        r"(bsd)?tar: [\w ]+: name b'.*', theirs b''",
        "GNU's long name is empty, which to Go is as if there were none",
    ),
    Difference(
        r"bsdtar: (file|link): time 77000000000, theirs 0",
        "bsdtar ignores PAX headers for all; times and owners in them count here as to GNU tar",
    ),
    Difference(
        r"(bsd)?tar: [\w ]+: time (?!-\d*0{9},)-\d+, theirs -?\d+",
        "fractions of seconds before 1970: GNU tar lists them a second late, bsdtar loses the sign",
    ),
    Difference(
        r"(bsd)?tar: file: name b'm+/big', theirs b'big'",
        "GNU's magic over a prefix that is no two times: Go wrote such once, and reads it, as we do",
    ),
    Difference(
        r"tar: file: mode 0, theirs 4095",
        "a mode of 64 bits: GNU tar complains, and takes it for all bits",
    ),
    Difference(
        r"tar: character device: device \(0, \d\), theirs \(5, \d+\)",
        "GNU tar knows no SCHILY.devmajor and SCHILY.devminor; bsdtar, which writes them, does",
    ),
    Difference(
        r"tar: (folder|file): kind '.*', theirs '(FIFO|file|hard link|character device)'",
        "the entry before is no file and yet has a size: to GNU tar data follows; to Go none does",
    ),
    Difference(
        r"(bsd)?tar: link: link b'.*', theirs b''",
        "bsdtar forgets a long target if the header's own is empty, which no program writes",
    ),
    Difference(
        r"tar: hard link: link b'.*', theirs b'\.'",
        "a hard link to nothing: GNU tar says so and takes the current folder; we refuse it later",
    ),
    Difference(
        r"bsdtar: hard link: (kind 'hard link', theirs 'file'|name b'p', theirs b'h')",
        "a hard link to nothing is a file to bsdtar, or nothing",
    ),
    Difference(
        r"bsdtar: [12] entries, theirs [01]",
        "a hard link to nothing, and to nothing else is there",
    ),
)
