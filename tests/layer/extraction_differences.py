"""What GNU tar 1.34, bsdtar 3.6.2 and Python make of a tar otherwise than we do, with the reasons.

`tests.layer.test_extractors` fails on any other difference, and on one listed here that does not occur
any more. What is said first is the program that unpacked, then the one that made the tar; where only
one is named, the tree that the tar was made of is compared with what we unpacked.
"""

from __future__ import annotations

from tests.layer.tar_differences import Difference

ALLOWED = (
    # What is not in the tar, so that nobody can unpack it.
    Difference(
        r"tar --format=posix: link of b'fifo-again': .*",
        "GNU tar writes a FIFO that has two names as two",
    ),
    Difference(
        r"bsdtar --format=pax: time of b'=': -1500000000, theirs -2500000000",
        "fractions of seconds before 1970: bsdtar writes them a second early",
    ),
    # What they make otherwise.
    Difference(
        r"bsdtar, .*: time of b'': .*",
        "bsdtar leaves the time of the folder that it works in",
    ),
    Difference(
        r"bsdtar, .*: time of b'[=g]': -[12]500000000, theirs -1?500000000",
        "fractions of seconds before 1970: bsdtar reads them a second late",
    ),
    Difference(
        r"bsdtar, pax for all: time of b'f': 77000000000, theirs 0",
        "bsdtar ignores PAX headers for all; times and owners in them count here as to GNU tar",
    ),
    Difference(
        r"tar, bsdtar .*: time of b'(deep|sticky)': .*",
        "bsdtar names folders before what is in others, and GNU tar sets a folder's time too early",
    ),
    Difference(
        r"tar, sparse: (b'g' is missing|content of b'f': .*)",
        "GNU tar wants to be told the number of ranges first, and breaks off",
    ),
    Difference(
        r"tarfile, .*: xattrs of .*, theirs \{\}",
        "tarfile knows no extended attributes",
    ),
    Difference(
        r"tarfile, .*: time of b'(l|link|twin|twin-of-a-link)': .*",
        "tarfile leaves the time of links",
    ),
    Difference(
        r"tarfile, .*: link of b'twin-of-a-link': .*",
        "tarfile makes a copy of a link that has two names",
    ),
    Difference(
        r"tarfile, (ours|pax|.*=(posix|pax)): time of .*: \d+, theirs \d+",
        "tarfile's times are floats, and end at a tenth of a microsecond",
    ),
    Difference(
        r"tarfile, ours: mode of b'(plain|sticky/plain-again)': 33188, theirs 33279",
        "tarfile follows a second name of a link, and what it leads to gets the link's mode",
    ),
    Difference(
        r"tarfile, ustar: (mode|uid|gid) of b'(d/f|h)': .*",
        "tarfile gives a file what the header of its second name says",
    ),
)
