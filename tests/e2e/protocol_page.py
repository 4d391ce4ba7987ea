"""Recorded calls as docs/protocol.md shows them: the same IDs, home and version every time."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator

from graphdriver import __version__
from tests.e2e.wire_bytes import Exchange
from tests.support.documented import blocks

HOME = "/var/lib/docker/my-plugin"

_ID = re.compile(rb"\b[0-9a-f]{64}\b")
_SPACES = re.compile(r" +$", re.MULTILINE)
_VERSION = b'"Plugin Version","%b"'
_LENGTH = re.compile(rb"(?<=Content-Length: )\d+")


def examples() -> list[str]:
    """Return the calls that the page shows."""
    return [
        one.text
        for one in blocks()
        if one.page == "docs/protocol.md" and one.text.startswith("POST ")
    ]


def shown(exchanges: Iterable[Exchange], home: str) -> list[str]:
    """Return each call as the page shows it.

    Args:
        exchanges: the calls, in their order: IDs are replaced in the order in which they come.
        home: the home in the recorded calls.
    """
    names: dict[bytes, bytes] = {}

    def renamed(found: re.Match[bytes]) -> bytes:
        count = len(names)
        digest = hashlib.sha256(b"layer %d" % count).hexdigest().encode()
        return names.setdefault(found[0], digest)

    def message(data: bytes) -> str:
        head, _, body = data.partition(b"\r\n\r\n")
        head = _ID.sub(renamed, head)
        if b"Transfer-Encoding: chunked" in head:
            text = "\n".join(_chunks(body))
        else:
            length = len(body)
            assert int(_LENGTH.findall(head)[0]) == length
            body = _ID.sub(renamed, body).replace(home.encode(), HOME.encode())
            body = body.replace(_VERSION % __version__.encode(), _VERSION % b"1.0.0")
            head = _LENGTH.sub(b"%d" % len(body), head)
            text = body.decode().rstrip("\n")
        lines = head.decode().replace("\r\n", "\n")
        return _SPACES.sub("", f"{lines}\n\n{text}" if text else lines)

    return [
        f"{message(bytes(one.request))}\n\n{message(bytes(one.response))}\n" for one in exchanges
    ]


def _chunks(body: bytes) -> Iterator[str]:
    """Yield the lines that stand for a body in chunks: its first chunk, the tar, its end."""
    tar = io.BytesIO()
    sizes = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        tar.write(rest[: int(size, 16)])
        sizes.append(size.decode())
        body = rest[int(size, 16) + 2 :]
    assert sizes[-1] == "0"
    tar.seek(0)
    with tarfile.open(fileobj=tar) as opened:
        entries = ", ".join(one.name + "/" * one.isdir() for one in opened)
    yield sizes[0]
    yield f"({int(sizes[0], 16)} bytes)"
    if len(sizes) > 2:
        yield "…"
    yield "0"
    yield ""
    yield f"(a tar of {len(tar.getvalue())} bytes with {entries})"
