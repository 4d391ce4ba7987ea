"""A small server of S3 in this process: what it refuses, and how, is Amazon's; it takes no parts.

Without the right to list a bucket, an object that does not exist is refused as one that may not be
read: 403 (Amazon S3 API reference, "GetObject" and "HeadObject", "Permissions").
"""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

RIGHTS: Final = frozenset({"ListBucket", "GetObject", "PutObject", "DeleteObject"})
_ACCESS_KEY: Final = "access"


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SmallS3

    def do_HEAD(self) -> None:
        self._get(has_body=False)

    def do_GET(self) -> None:
        if "list-type" in self._query:
            if self._is_allowed("ListBucket"):
                self._list()
            return
        self._get()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_allowed("PutObject"):
            return
        if self.headers["If-None-Match"] == "*" and self._key in self.server.objects:
            self._refuse(412, "PreconditionFailed")
            return
        self.server.objects[self._key] = body
        self._answer(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "uploads" in self._query:
            if self._is_allowed("PutObject"):
                self._refuse(501, "NotImplemented")
            return
        (path,) = re.findall("<Key>(.*?)</Key>", body)
        if "DeleteObject" in self.server.rights:
            self.server.objects.pop(path, None)
            result = f"<Deleted><Key>{path}</Key></Deleted>"
        else:
            denied = "<Code>AccessDenied</Code><Message>No.</Message>"
            result = f"<Error><Key>{path}</Key>{denied}</Error>"
        self._answer(200, f"<DeleteResult>{result}</DeleteResult>".encode())

    def _get(self, *, has_body: bool = True) -> None:
        if not self._is_allowed("GetObject"):
            return
        found = self.server.objects.get(self._key)
        if found is None:
            if "ListBucket" in self.server.rights:
                self._refuse(404, "NoSuchKey")
            else:
                self._refuse(403, "AccessDenied")
            return
        first, last = 0, len(found) - 1
        headers = {}
        if asked := self.headers["Range"]:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            last = min(last, len(found) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(found)}"
        self._answer(206 if asked else 200, found[first : last + 1], headers, has_body=has_body)

    def _list(self) -> None:
        prefix = self._query.get("prefix", [""])[0]
        listed = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(content)}</Size><ETag>a</ETag>"
            "<LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
            for key, content in self.server.objects.items()
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
        self._answer(200, text.encode())

    @property
    def _query(self) -> dict[str, list[str]]:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query, keep_blank_values=True)

    @property
    def _key(self) -> str:
        """The object's name, without its bucket's."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).split("/", 2)[2]

    def _is_allowed(self, right: str) -> bool:
        """Refuse a request without a right, or with an unknown key; tell whether it may go on."""
        self.server.asked.append(f"{self.command} {right}")
        if f"Credential={_ACCESS_KEY}/" not in self.headers["Authorization"]:
            self._refuse(403, "InvalidAccessKeyId")
        elif not self.server.has_bucket:
            self._refuse(404, "NoSuchBucket")
        elif right not in self.server.rights:
            self._refuse(403, "AccessDenied")
        else:
            return True
        return False

    def _refuse(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>No.</Message></Error>"
        self._answer(status, text.encode(), has_body=self.command != "HEAD")

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        has_body: bool = True,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"tag"')
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class SmallS3(ThreadingHTTPServer):
    """The server.

    Attributes:
        objects: what is in its one bucket, by name.
        rights: what its one user may do.
        has_bucket: whether there is a bucket.
        asked: the methods and the rights of all requests.
        environment: with these variables a client finds it, and may use it.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.objects: dict[str, bytes] = {}
        self.rights: frozenset[str] = RIGHTS
        self.has_bucket = True
        self.asked: list[str] = []
        self.environment = {
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}",
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "secret-key",
        }


@contextlib.contextmanager
def small_s3() -> Iterator[SmallS3]:
    """Run a server for the length of a ``with`` block."""
    with SmallS3() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
