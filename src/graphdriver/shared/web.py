"""HTTP requests to a server that is not trusted: its answers end, and its errors show no secret.

- A server that stops sending, or sends next to nothing, does not hold a caller for long.
- A body is read as far as it was announced or is useful, never into memory without a limit.
- An error names the method, the host and the path: queries are left out, since those of storage
  backends are signatures, and so are headers.
"""

from __future__ import annotations

import contextlib
import http
import re
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as WebTimeoutError

from graphdriver.errors import UnsupportedError
from graphdriver.printable import printable

SILENCE: Final = 20.0
"""How long a server may send nothing, in seconds."""

GRACE: Final = 30.0
LEAST_RATE: Final = 32 << 10
"""How slow a server may be: after `GRACE` seconds of waiting, so many bytes a second."""

_CONNECT: Final = 5.0
_CONNECTIONS: Final = 8
_PIECE: Final = 256 << 10


class Answer:
    """A server's answer; close it, also if its body is not read.

    Attributes:
        status: its HTTP status.
        headers: its headers; names in any case.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, asked: str) -> None:
        self._response = response
        self._asked = asked
        self._waited = 0.0
        self._got = 0
        self.status = response.status
        self.headers = response.headers

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes of the body, ``b""`` at its end.

        Raises:
            OSError: it breaks off, or is too slow.
        """
        began = time.monotonic()
        with _failures(self._asked):
            piece = self._response.read1(n)
        self._waited += time.monotonic() - began
        self._got += len(piece)
        if (self._waited - GRACE) * LEAST_RATE > self._got:
            raise TimeoutError(f"{self._asked}: the answer is too slow")
        return piece

    def whole(self, limit: int) -> bytes:
        """Return the body.

        Raises:
            OSError: it has more bytes than the limit, breaks off, or is too slow.
        """
        body = bytearray()
        while piece := self.read(_PIECE):
            body += piece
            if len(body) > limit:
                raise OSError(f"{self._asked}: the answer has more than {limit} bytes")
        return bytes(body)

    def refusal(self) -> OSError:
        """Return the error of an answer that was not expected."""
        try:
            meaning = f" {http.HTTPStatus(self.status).phrase}"
        except ValueError:
            meaning = ""
        kind = PermissionError if self.status in (401, 403) else OSError
        return kind(f"{self._asked}: the server answers {self.status}{meaning}")

    def close(self) -> None:
        """Close the answer; its connection is used again if nothing of the body is left."""
        if self._response.length_remaining == 0:
            with contextlib.suppress(OSError):
                self.read(1)
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Web:
    """Connections to one server, and to those that it redirects to.

    Args:
        url: an address on the server; its proxy is the one that the environment names.

    Raises:
        UnsupportedError: that is no proxy.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        timeout = urllib3.Timeout(connect=_CONNECT, read=SILENCE)
        context = ssl.create_default_context()
        self._pool: urllib3.PoolManager
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            try:
                self._pool = urllib3.ProxyManager(
                    proxy, maxsize=_CONNECTIONS, timeout=timeout, ssl_context=context
                )
            except (HTTPError, ValueError) as error:
                raise UnsupportedError(  # without the address, which may have a password
                    f"the environment names a proxy for {parts.scheme} that cannot be used",
                    hint=f"give {parts.scheme}_proxy an address with http:// or https://",
                ) from error
        else:
            self._pool = urllib3.PoolManager(
                maxsize=_CONNECTIONS, timeout=timeout, ssl_context=context
            )

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Send a request; return its answer, whatever its status; follow no redirection.

        Raises:
            OSError: the server cannot be reached, or does not answer.
        """
        parts = urllib.parse.urlsplit(url)
        asked = printable(
            f"{method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        )
        with _failures(asked):
            response = self._pool.request(
                method,
                url,
                headers={"User-Agent": "graphdriver", **headers},
                body=body,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )
        return Answer(response, asked)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


@contextlib.contextmanager
def _failures(asked: str) -> Iterator[None]:
    """Raise what fails at a server as `OSError`."""
    try:
        yield
    except WebTimeoutError as error:
        raise TimeoutError(f"{asked}: no answer in time") from error
    except (HTTPError, OSError) as error:
        reason = re.sub(r"\?\S*", "", printable(str(error)))
        raise ConnectionError(f"{asked}: {reason:.300}") from error
