"""One repository of a registry: its manifests, blobs and tags (OCI distribution-spec).

A registry may send a request for a blob elsewhere. There it is made without credentials, and by https
unless the registry itself is reached by plain HTTP.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import re
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError
from graphdriver.shared.login import Login
from graphdriver.shared.store import NotStoredError
from graphdriver.shared.web import Answer, Web

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_BYTES: Final = {"Content-Type": "application/octet-stream"}
_LONGEST_MANIFEST: Final = 4 << 20
"""In bytes; registries take no longer ones."""
_LONGEST_PAGE: Final = 16 << 20
_MOST_PAGES: Final = 10_000
_REDIRECTIONS: Final = 5
_RETRIES: Final = 3
_PIECE: Final = 1 << 20


class Blob(NamedTuple):
    """A blob's digest, and its length in bytes."""

    digest: str
    size: int


class Repository:
    """A repository.

    Args:
        host: the registry's, with its port if it has one.
        name: the repository's.
        is_plain: whether it is reached by plain HTTP instead of https.
    """

    def __init__(self, host: str, name: str, *, is_plain: bool = False) -> None:
        self._schemes = ("https", "http") if is_plain else ("https",)
        self._origin = f"{self._schemes[-1]}://{host}"
        self._base = f"{self._origin}/v2/{name}/"
        self._web = Web(self._base)
        self._login = Login(self._web, host, name, is_plain=is_plain)

    def close(self) -> None:
        """Close all connections."""
        self._web.close()

    # --- manifests and tags ---------------------------------------------------------------------------

    def manifest(self, tag: str) -> bytes:
        """Return the manifest of a tag.

        Raises:
            NotStoredError: there is no such tag.
            OSError: the registry fails.
        """
        with self._ask("GET", f"manifests/{tag}", {"Accept": MANIFEST}) as answer:
            if answer.status == 404:
                raise NotStoredError(tag)
            _expect(answer, 200)
            return answer.whole(_LONGEST_MANIFEST)

    def has_manifest(self, tag: str) -> bool:
        """Tell whether there is such a tag."""
        with self._ask("HEAD", f"manifests/{tag}", {"Accept": MANIFEST}) as answer:
            if answer.status != 404:
                _expect(answer, 200)
            return answer.status == 200

    def put_manifest(self, tag: str, manifest: bytes) -> None:
        """Give a tag a manifest."""
        with self._ask("PUT", f"manifests/{tag}", {"Content-Type": MANIFEST}, manifest) as answer:
            _expect(answer, 201)

    def remove_manifest(self, manifest: bytes) -> None:
        """Remove a manifest, and its tags; succeed if it does not exist."""
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        with self._ask("DELETE", f"manifests/{digest}") as answer:
            if answer.status == 405:
                raise PermissionError("the registry removes nothing: its configuration forbids it")
            if answer.status != 404:
                _expect(answer, 200, 202, 204)

    def tags(self) -> Iterator[str]:
        """Yield all tags, in any order."""
        last = ""
        for _ in range(_MOST_PAGES):
            query = urllib.parse.urlencode({"n": 1000, "last": last} if last else {"n": 1000})
            with self._ask("GET", f"tags/list?{query}") as answer:
                if answer.status == 404:  # nothing was ever pushed
                    return
                _expect(answer, 200)
                found = _tags(answer.whole(_LONGEST_PAGE))
                is_last = "Link" not in answer.headers
            yield from found
            if is_last or not found:
                return
            last = found[-1]
        raise OSError("the registry's list of tags does not end")

    def now(self) -> float:
        """Return the time by the registry's own clock, in seconds since 1970."""
        with self._ask("GET", "tags/list?n=1") as answer:
            try:
                date = email.utils.parsedate_to_datetime(answer.headers.get("Date", ""))
            except ValueError:
                return time.time()
            return date.timestamp()

    # --- blobs ----------------------------------------------------------------------------------------

    def blob(self, blob: Blob, start: int = 0) -> BlobStream:
        """Read a blob.

        Args:
            blob: what its manifest says of it.
            start: from where on, in bytes.

        Raises:
            BadArchiveError: there is no such blob.
            OSError: the registry fails.
        """
        return BlobStream(self, blob, start)

    def answer_of(self, blob: Blob, start: int) -> Answer:
        """Return the answer whose body is a blob, from a place within."""
        url = f"{self._base}blobs/{blob.digest}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._ask("GET", url, headers)
        for _ in range(_REDIRECTIONS):
            if answer.status not in (301, 302, 303, 307, 308):
                break
            with answer:
                url = self._location(url, answer)
            answer = self._ask("GET", url, headers)
        try:
            if answer.status == 404:
                raise BadArchiveError(f"the blob {blob.digest} of the registry is missing")
            _expect(answer, 206 if start else 200)
            if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise OSError(f"the registry sends another part of the blob {blob.digest}")
        except BaseException:
            answer.close()
            raise
        return answer

    def put_blob(self, content: ReadStream) -> Blob:
        """Upload a blob; return its digest and length."""
        with self._ask("POST", "blobs/uploads/", _BYTES, b"") as answer:
            _expect(answer, 202)
            url = self._location(self._base, answer)
        counted = _Counted(content)
        try:
            with self._ask("PATCH", url, _BYTES, counted) as answer:
                _expect(answer, 202, 204)
                url = self._location(url, answer)
            mark = "&" if urllib.parse.urlsplit(url).query else "?"
            url = f"{url}{mark}digest={urllib.parse.quote(counted.blob.digest)}"
            with self._ask("PUT", url, _BYTES, b"") as answer:
                _expect(answer, 201, 204)
        except BaseException:
            self._cancel(url)
            raise
        return counted.blob

    def _cancel(self, url: str) -> None:
        try:
            self._ask("DELETE", url).close()
        except OSError:
            return  # the registry removes what was not finished after a while

    def _location(self, url: str, answer: Answer) -> str:
        """Return where an answer sends its client."""
        try:
            location = urllib.parse.urljoin(url, answer.headers.get("Location", ""))
            is_allowed = urllib.parse.urlsplit(location).scheme in self._schemes
        except ValueError:
            is_allowed = False  # it is no address
        if not is_allowed:
            raise OSError("the registry sends its clients to an address that is not https")
        return location

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Send a request; log in if the registry asks for it."""
        url = urllib.parse.urljoin(self._base, url)
        if not url.startswith(f"{self._origin}/"):
            return self._web.ask(method, url, headers or {}, body)
        answer = self._web.ask(method, url, {**(headers or {}), **self._login.headers}, body)
        if answer.status != 401 or isinstance(body, _Counted):  # a stream is sent only once
            return answer
        with answer:
            challenges = answer.headers.getlist("WWW-Authenticate")
        if not self._login.answer(challenges):
            raise answer.refusal()
        return self._web.ask(method, url, {**(headers or {}), **self._login.headers}, body)


class BlobStream:
    """A blob's bytes; where the registry breaks off, the rest is asked for again.

    Args:
        repository: where the blob is.
        blob: what its manifest says of it.
        start: from where on, in bytes.
    """

    def __init__(self, repository: Repository, blob: Blob, start: int) -> None:
        self._repository = repository
        self._blob = blob
        self._at = start
        self._retries = _RETRIES
        self._answer = repository.answer_of(blob, start) if start < blob.size else None

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            OSError: the registry fails again and again.
        """
        while self._answer and self._at < self._blob.size:
            try:
                piece = self._answer.read(min(n, self._blob.size - self._at))
            except TimeoutError:
                raise
            except OSError:
                if not self._retries:
                    raise
                self._retries -= 1
                self.close()
                self._answer = self._repository.answer_of(self._blob, self._at)
                continue
            self._at += len(piece)
            return piece
        return b""

    def close(self) -> None:
        """Close the connection, or keep it for another request if nothing is left to read."""
        if self._answer:
            self._answer.close()


class _Counted:
    """A stream as the body of a request, and what it is as a blob."""

    def __init__(self, content: ReadStream) -> None:
        self._content = content
        self._hash = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._content.read(_PIECE):
            self._hash.update(piece)
            self._size += len(piece)
            yield piece

    @property
    def blob(self) -> Blob:
        """What was sent."""
        return Blob(f"sha256:{self._hash.hexdigest()}", self._size)


def is_digest(text: object) -> bool:
    """Tell whether a member of a manifest is a digest that a blob can have here."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _tags(page: bytes) -> list[str]:
    try:
        found = json.loads(page)["tags"] or []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OSError("the registry's list of tags is damaged") from error
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
        raise OSError("the registry's list of tags is damaged")
    return found


def _expect(answer: Answer, *statuses: int) -> None:
    if answer.status not in statuses:
        raise answer.refusal()
