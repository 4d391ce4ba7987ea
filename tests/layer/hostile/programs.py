"""Files that somebody might run or load because of where they lie."""

from __future__ import annotations

from graphdriver.conformance.plugin import tars
from tests.layer.hostile.attack import Attack

_EVIL = b"import os\nos.system('echo owned > %b/secret')\n"
_SCRIPT = b"#!/bin/sh\necho owned > %b/secret\n"


def libraries_of_the_name_service(canary: bytes) -> Attack:
    """CVE-2019-14271: looking up an owner's name loaded the layer's own libraries."""
    blow = (
        tars.file(b"etc/nsswitch.conf", b"passwd: files evil\ngroup: files evil\n"),
        tars.file(b"etc/passwd", b"evil:x:4242:4242::/:/bin/sh\n"),
        *[
            tars.file(folder + b"/libnss_%b.so.2" % name, _SCRIPT % canary, mode=0o755, uid=4242)
            for folder in (b"lib", b"usr/lib", b"lib/x86_64-linux-gnu")
            for name in (b"files", b"evil")
        ],
        named_owner(b"f"),
    )
    return Attack(blow=blow)


def named_owner(name: bytes) -> bytes:
    """A file whose owner has a name as well, which somebody might look up."""
    block = bytearray(tars.header(name, uid=4242, gid=4242))
    block[265:297] = b"evil".ljust(32, b"\0")
    block[297:329] = b"evil".ljust(32, b"\0")
    return tars.checked(bytes(block))


def modules_of_the_language(canary: bytes) -> Attack:
    """CVE-2019-14271 as it would be for a program in Python: what is imported late."""
    names = (b"encodings/idna.py", b"sitecustomize.py", b"stat.py", b"errno.py", b"graphdriver.py")
    return Attack(blow=tuple(tars.file(name, _EVIL % canary) for name in names))


def programs_that_unpackers_call(canary: bytes) -> Attack:
    """CVE-2014-9357, CVE-2026-41567: xz, unpigz and the like, found in the layer."""
    trap = tuple(
        tars.file(folder + b"/" + name, _SCRIPT % canary, mode=0o4755)
        for folder in (b"bin", b"usr/bin", b"usr/local/sbin")
        for name in (b"xz", b"unpigz", b"gzip", b"tar", b"sh")
    )
    return Attack(trap, (tars.file(b"f", b"mine"),), leaves={b"f": b"mine"})
