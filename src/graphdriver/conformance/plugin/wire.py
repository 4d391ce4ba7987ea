"""A daemon's side of the wire, byte for byte, without this package's client."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from graphdriver.conformance.kit.expect import Mismatch

TIMEOUT = 60.0
"""Time limit in seconds for a plugin that neither reads nor writes, and for a whole response."""

LONGEST_ANSWER = 256 << 20
"""Largest response that is read, in bytes; no case creates a Diff of half of that."""

_LONGEST_LINES = 64 << 10
"""Largest head of a response, or line before a chunk, in bytes."""

_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


class SilentError(Mismatch):
    """A plugin neither reads nor writes."""

    def __init__(self, what: str, seconds: float | None) -> None:
        super().__init__(what, f"nothing for {seconds:.0f} s", "a plugin that continues")


@dataclass(frozen=True)
class Answer:
    """A response. ``is_whole`` is false if the connection ended in its middle."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def members(self) -> dict[str, object]:
        """The members of the JSON object in the body."""
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(self.body)
            if isinstance(found, dict):
                return found
        raise Mismatch("the body of an answer", self.body, "a JSON object")

    @property
    def error(self) -> str:
        """The text that a daemon would show; the response must be an error in this project's form."""
        if self.status == 200 or "Err" not in self.members:
            raise Mismatch("an answer", self, "a status that is not 200, and Err")
        return str(self.members["Err"])

    @property
    def rejection(self) -> str:
        """The text that a daemon would show, or "" if a daemon would see a success."""
        with contextlib.suppress(Mismatch):
            if error := self.members.get("Err"):
                return str(error)
        if self.status == 200:
            return ""
        return self.body.decode("utf-8", "replace") or f"status {self.status} and no text"


def head(target: str, *headers: str) -> bytes:
    """Return the head of a call as a daemon of 27.5.1 writes it."""
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: plugin.moby.localhost",
        "User-Agent: Go-http-client/1.1",
        *headers,
        "Accept: application/vnd.docker.plugins.v1.2+json",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def call(method: str, **members: object) -> bytes:
    """Return a JSON call as a daemon writes it: empty members left out, a line feed at the end."""
    body = json.dumps({key: value for key, value in members.items() if value != ""}) + "\n"
    return head(f"/GraphDriver.{method}", f"Content-Length: {len(body)}") + body.encode()


def sent_again(method: str) -> bytes:
    """Return a daemon's repeated JSON call after its connection broke: without the body."""
    return head(f"/GraphDriver.{method}", "Content-Length: 0")


def apply_head(id: str, parent: str = "") -> bytes:
    """Return the head of an ApplyDiff."""
    target = f"/GraphDriver.ApplyDiff?id={id}&parent={parent}"
    return head(target, "Transfer-Encoding: chunked")


def chunks(data: bytes, size: int = 32 << 10) -> Iterator[bytes]:
    """Cut data into chunks, without the one that ends them."""
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


def apply(id: str, tar: bytes, parent: str = "") -> bytes:
    """Return a whole ApplyDiff."""
    return apply_head(id, parent) + b"".join(chunks(tar)) + LAST_CHUNK


class Wire:
    """A connection to a plugin.

    Args:
        to: a unix socket's path, host and port, or a socket that is connected already.
    """

    def __init__(self, to: str | tuple[str, int] | socket.socket) -> None:
        if isinstance(to, socket.socket):
            self.socket = to
        else:
            family = socket.AF_UNIX if isinstance(to, str) else socket.AF_INET
            self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT)
        self._held = bytearray()
        self._begin()
        if not isinstance(to, socket.socket):
            try:
                self.socket.connect(to)
            except OSError:
                self.socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close like a program that exits or is killed, with unread bytes left unread."""
        self.socket.close()

    def reset(self) -> None:
        """Close so that over TCP the other side sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *pieces: bytes) -> Self:
        """Write bytes as they are."""
        self._begin()
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except TimeoutError:
            raise SilentError("a call that is sent", self.socket.gettimeout()) from None
        return self

    def end_sending(self) -> Self:
        """Close one direction, as ``nc -N`` does."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def ask(self, *pieces: bytes) -> Answer:
        """Write bytes as they are, and read the answer."""
        return self.send(*pieces).answer()

    def answer(self, begun: bytes = b"") -> Answer:
        """Read the next response; a caller may have read its beginning.

        RFC 9112, section 6.3, defines the length of its body: chunks, else Content-Length, else all
        until the connection's end.

        Raises:
            Mismatch: the connection ended, or it is not HTTP.
            SilentError: it did not arrive in time.
        """
        self._held[:0] = begun
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        status = rest.partition(" ")[0]
        if not lines[0]:
            raise Mismatch("an answer", "the connection's end", "one")
        if version != "HTTP/1.1" or not (status.isdecimal() and len(status) == 3):
            raise Mismatch("the first line of an answer", lines[0], "HTTP/1.1 and a status")
        headers = {}
        for line in lines[1:]:
            if line:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = list(self._chunked())
            whole = pieces[-1:] == [b""]
            return Answer(int(status), headers, b"".join(pieces), whole)
        if "content-length" not in headers:
            return Answer(int(status), headers, self.rest(), True)
        length_field = headers["content-length"]
        if not (length_field.isdecimal() and len(length_field) < 20):
            raise Mismatch("Content-Length", length_field, "a number")
        length = int(length_field)
        body = self.take(length)
        return Answer(int(status), headers, body, len(body) == length)

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes; fewer only at the connection's end."""
        while len(self._held) < size and self._fill():
            pass
        found = bytes(self._held[:size])
        del self._held[:size]
        return found

    def rest(self) -> bytes:
        """Read until the plugin ends the connection."""
        rest, self._held = self._held, bytearray()
        while piece := self._received():
            rest += piece
        return bytes(rest)

    def _chunked(self) -> Iterator[bytes]:
        """Yield pieces, and an empty one only if the stream was ended and not broken off."""
        while size := self._until(b"\r\n"):
            count = _size(size)
            piece = self.take(count)
            ended = self.take(2) == b"\r\n"
            if count or ended:
                yield piece
            if not count or not ended:
                return

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            if len(self._held) > _LONGEST_LINES:
                saw = f"{len(self._held)} bytes without a line's end"
                raise Mismatch("the lines of an answer", saw, f"at most {_LONGEST_LINES} bytes")
            if not self._fill():
                return b""
        return self.take(self._held.index(mark) + len(mark))

    def _begin(self) -> None:
        """Reset the limits of time and size for the next response."""
        self._came = 0
        self._deadline = time.monotonic() + TIMEOUT

    def _fill(self) -> bool:
        piece = self._received()
        self._held += piece
        return bool(piece)

    def _received(self) -> bytes:
        """Return the next bytes, or b"" at the end of the connection, closed or broken.

        Raises:
            Mismatch: the response exceeds the limit of size or time.
        """
        try:
            piece = self.socket.recv(1 << 16)
        except ConnectionError:
            return b""
        except TimeoutError:
            raise SilentError("an answer", self.socket.gettimeout()) from None
        self._came += len(piece)
        if self._came > LONGEST_ANSWER:
            raise Mismatch("an answer", f"over {LONGEST_ANSWER} bytes", "its end")
        if piece and time.monotonic() > self._deadline:
            saw = f"{self._came} bytes in {TIMEOUT:.0f} s, and more"
            raise Mismatch("an answer", saw, "its end")
        return piece


def _size(line: bytes) -> int:
    """Read the line before a chunk; extensions after a semicolon are ignored (RFC 9112, 7.1.1)."""
    digits = line.partition(b";")[0].strip()
    if not _CHUNK_SIZE.fullmatch(digits):
        raise Mismatch("the size of a chunk", digits, "hexadecimal digits")
    return int(digits, 16)


def trickled(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut data into pieces of these sizes; the last piece is the rest."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


_CONNECT: Final = """
import socket, sys
to = socket.socket(fileno=int(sys.argv[1]))
plugin = socket.socket(socket.AF_UNIX)
plugin.connect(sys.argv[2])
socket.send_fds(to, [b"x"], [plugin.fileno()])
sys.stdin.read()
"""


@contextlib.contextmanager
def from_another_process(path: str) -> Iterator[Wire]:
    """Give a connection to a unix socket that another process opened and keeps open meanwhile.

    The kernel reports that process to the plugin as its peer (SO_PEERCRED, unix(7)).
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _CONNECT, str(theirs.fileno()), path],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        )
        with process:
            theirs.close()
            _, found, _, _ = socket.recv_fds(ours, 1, 1)
            if not found:
                raise ConnectionRefusedError(f"another process cannot connect to {path}")
            with Wire(socket.socket(fileno=found[0])) as wire:
                yield wire
