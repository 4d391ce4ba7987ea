"""Faults in what becomes of calls that break off, and of calls that come again."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import ClassVar

from graphdriver.conformance.plugin import tars
from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.proxy import Answer, BrokenOffError, Proxy, Request


@caught_by("broken-calls/repeated-json-call-is-rejected")
class EmptyBodiesSucceed(Proxy):
    """A call with an empty body is a success."""

    def exchange(self, request: Request) -> Answer:
        if request.call != "ApplyDiff" and not request.whole():
            return Answer.of(200, b"{}")
        return super().exchange(request)


@caught_by("broken-calls/half-a-json-call-does-nothing")
class HalfACallIsDone(Proxy):
    """A Remove whose body breaks off is done, as far as its ID is known."""

    _seen: ClassVar[set[str]] = set()

    def exchange(self, request: Request) -> Answer:
        if request.call in ("Create", "Remove"):
            try:
                self._seen.add(json.loads(request.whole() or b"{}").get("ID", ""))
            except BrokenOffError as broken:
                self._finish(request, broken.part)
                raise
        return super().exchange(request)

    def _finish(self, request: Request, part: bytes) -> None:
        start = re.findall(rb'"ID": "([0-9a-f]+)', part)[0].decode()
        for id in self._seen:
            if id.startswith(start):
                request.body = iter([json.dumps({"ID": id}).encode()])
                super().exchange(request).whole()


class _Transfers(Proxy):
    """Decides what becomes of an ApplyDiff that breaks off."""

    def exchange(self, request: Request) -> Answer:
        if request.call != "ApplyDiff":
            return super().exchange(request)
        pieces: list[bytes] = []
        body = request.body

        def taken() -> Iterator[bytes]:
            for piece in body:
                pieces.append(piece)
                yield piece

        request.body = taken()
        try:
            return super().exchange(request)
        except BrokenOffError as broken:
            return self.broken(request, b"".join(pieces), broken)

    def broken(self, request: Request, came: bytes, broken: BrokenOffError) -> Answer:
        raise broken

    def good(self) -> Answer:
        return Answer.of(200, b'{"Size": 0}')


@caught_by("broken-calls/transfer-broken-in-a-chunk")
class CutChunksAreGood(_Transfers):
    """A chunk that breaks off is taken as it came."""

    def broken(self, request: Request, came: bytes, broken: BrokenOffError) -> Answer:
        if broken.part:
            return self.good()
        raise broken


@caught_by("broken-calls/transfer-broken-between-chunks")
class TheConnectionsEndIsTheBodys(_Transfers):
    """A connection that ends between two chunks, and two files, ends the layer."""

    def broken(self, request: Request, came: bytes, broken: BrokenOffError) -> Answer:
        if came and not broken.part and not came.endswith(tars.END):
            return self.good()
        raise broken


@caught_by("broken-calls/transfer-without-its-last-chunk")
class TheTarsEndIsTheBodys(_Transfers):
    """The end of the tar is taken for the end of the body."""

    def broken(self, request: Request, came: bytes, broken: BrokenOffError) -> Answer:
        if came.endswith(tars.END):
            return self.good()
        raise broken


@caught_by("broken-calls/transfer-that-breaks-at-once")
class NoBodyIsAnEmptyLayer(_Transfers):
    """A body that breaks off before its first byte is an empty layer."""

    def broken(self, request: Request, came: bytes, broken: BrokenOffError) -> Answer:
        if not came and not broken.part:
            return self.good()
        raise broken


@caught_by("broken-calls/broken-layer-is-unusable")
class HalfLayersAreShown(Proxy):
    """Of a transfer that breaks off, what came before is kept as the layer."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "ApplyDiff":
            try:
                request.whole()
            except BrokenOffError:
                request.body = iter([bytes(1024)])
                super().exchange(request).whole()
                raise
        return super().exchange(request)


@caught_by("broken-calls/tail-of-a-broken-transfer-is-rejected")
class TailsAreTaken(_Transfers):
    """A second transfer of a layer begins it anew."""

    _broken: ClassVar[set[str]] = set()

    def exchange(self, request: Request) -> Answer:
        query = urllib.parse.parse_qs(request.target.partition("?")[2])
        if request.call == "ApplyDiff" and (id := query["id"][0]) in self._broken:
            for call in ("Remove", "Create"):
                body = iter([json.dumps({"ID": id}).encode()])
                super().exchange(Request(call, f"/GraphDriver.{call}", body, {})).whole()
        return super().exchange(request)

    def broken(self, request: Request, came: bytes, broken: BrokenOffError) -> Answer:
        self._broken.add(urllib.parse.parse_qs(request.target.partition("?")[2])["id"][0])
        raise broken


@caught_by("broken-calls/tail-is-rejected-where-diffs-are-exact")
class ExactButTakesTails(TailsAreTaken):
    """Diffs are said to be exact, and a second transfer of a layer begins it anew."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Capabilities":
            request.whole()
            return Answer.of(200, b'{"Capabilities": {"ReproducesExactDiffs": true}}')
        return super().exchange(request)


@caught_by("broken-calls/empty-body-is-an-empty-layer")
class EmptyTarsAreDamaged(Broken):
    """A body without an entry in it is refused."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        first = archive.read(512)
        if not first.strip(b"\0"):
            raise GraphDriverError("this is no tar")
        return super().apply_diff(id, parent, _Behind(first, archive))


class _Behind:
    """A stream with something before it."""

    def __init__(self, first: bytes, rest: ReadStream) -> None:
        self._first = first
        self._rest = rest

    def read(self, n: int, /) -> bytes:
        if self._first:
            piece, self._first = self._first[:n], self._first[n:]
            return piece
        return self._rest.read(n)


@caught_by("broken-calls/chunks-of-any-size")
class SmallChunksAreNone(Proxy):
    """A chunk must hold a whole block of a tar."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "ApplyDiff":
            pieces = list(request.body)
            request.body = iter(pieces)
            if any(len(piece) < 512 for piece in pieces[:-1]):
                return Answer.of(500, b'{"Err": "a header was cut"}')
        return super().exchange(request)


@caught_by("broken-calls/body-of-known-length")
class ChunksAloneAreTaken(Proxy):
    """An ApplyDiff with Content-Length is refused."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "ApplyDiff" and "Content-Length" in request.headers:
            request.whole()
            return Answer.of(411, b'{"Err": "the body must come in chunks"}')
        return super().exchange(request)


@caught_by("broken-calls/reader-of-a-diff-goes-away")
class DiffsLeftUnreadHoldTheirLayer(Broken):
    """A Diff that was not read to its end keeps its layer from being removed."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: dict[str, int] = {}

    def diff(self, id: str, parent: str) -> ClosableStream:
        return _Counted(self, id, super().diff(id, parent))

    def remove(self, id: str) -> None:
        if self.unread.get(id):
            raise GraphDriverError("device or resource busy")
        super().remove(id)


@caught_by("broken-calls/file-that-shrinks-under-a-diff")
class BrokenDiffsEnd(Proxy):
    """A Diff that breaks off is ended as if it were whole."""

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        answer.body = self._ended(answer.body)
        return answer

    def _ended(self, body: Iterator[bytes]) -> Iterator[bytes]:
        with contextlib.suppress(BrokenOffError):
            yield from body


class _Counted:
    def __init__(
        self, driver: DiffsLeftUnreadHoldTheirLayer, id: str, whole: ClosableStream
    ) -> None:
        self._driver = driver
        self._id = id
        self._whole = whole
        driver.unread[id] = driver.unread.get(id, 0) + 1

    def read(self, n: int, /) -> bytes:
        piece = self._whole.read(n)
        if not piece:
            self._driver.unread[self._id] -= 1
        return piece

    def close(self) -> None:
        self._whole.close()


@caught_by("broken-calls/error-reaches-the-sender")
class ClosesWithoutAWord(Proxy):
    """An ApplyDiff that fails is told by closing the connection."""

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        if request.call == "ApplyDiff" and answer.status != 200:
            raise BrokenOffError
        return answer


@caught_by("broken-calls/error-waits-for-the-body")
class RefusesAtOnce(Proxy):
    """An ApplyDiff of what is no tar is refused by its first piece."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "ApplyDiff":
            first = next(request.body, b"")
            if b"ustar" not in first:
                return Answer.of(500, b'{"Err": "this is no tar"}')
            request.body = itertools.chain([first], request.body)
        return super().exchange(request)
