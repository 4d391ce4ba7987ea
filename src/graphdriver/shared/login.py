"""Who this node is to a registry: nothing is sent until it asks, then credentials, or a token.

(OCI distribution-spec leaves this open; Docker's "Token Authentication Specification" is what
registries do.)
"""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Final

from graphdriver.shared.credentials import Credentials, credentials_for
from graphdriver.shared.web import Web

_TOKEN: Final = re.compile(r"[!-~]+")
_LONGEST: Final = 1 << 20
"""The most bytes of an answer with a token."""


class Login:
    """The header Authorization of requests to one repository.

    Args:
        web: connections.
        host: the registry's, with its port if it has one.
        repository: the repository's name.
        is_plain: whether tokens may be asked for over plain HTTP.
    """

    def __init__(self, web: Web, host: str, repository: str, *, is_plain: bool) -> None:
        self._web = web
        self._host = host
        self._repository = repository
        self._is_plain = is_plain
        self._authorization = ""

    @property
    def headers(self) -> Mapping[str, str]:
        """The header of the next request, if the registry has asked for one."""
        return {"Authorization": self._authorization} if self._authorization else {}

    def answer(self, challenges: Sequence[str]) -> bool:
        """Do what a registry asks for; return whether a request is worth another try.

        Args:
            challenges: the values of its header WWW-Authenticate.

        Raises:
            OSError: the server of its tokens fails, or refuses.
            UnsupportedError: the file with credentials, or a helper, cannot be used.
        """
        credentials = credentials_for(self._host, self._repository)
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            try:
                asked = urllib.request.parse_keqv_list(urllib.request.parse_http_list(rest))
            except ValueError:
                continue
            match scheme.lower():
                case "bearer" if "realm" in asked:
                    self._authorization = f"Bearer {self._token(asked, credentials)}"
                    return True
                case "basic" if credentials and self._authorization != credentials.basic:
                    self._authorization = credentials.basic
                    return True
        return False

    def _token(self, asked: Mapping[str, str], credentials: Credentials | None) -> str:
        """Return a token of the server that a registry names."""
        try:
            realm = urllib.parse.urlsplit(asked["realm"])
        except ValueError:
            raise OSError(f"{self._host} wants a token of a server that has no address") from None
        if realm.scheme != "https" and not (self._is_plain and realm.scheme == "http"):
            raise OSError(f"{self._host} wants a token of a server that does not speak https")
        form = {name: asked[name] for name in ("service", "scope") if name in asked}
        headers = {}
        if credentials and credentials.identity:
            form |= {"grant_type": "refresh_token", "refresh_token": credentials.identity}
            form["client_id"] = "graphdriver"
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            answer = self._web.ask(
                "POST", asked["realm"], headers, urllib.parse.urlencode(form).encode()
            )
        else:
            if credentials:
                headers["Authorization"] = credentials.basic
            query = "&".join(filter(None, (realm.query, urllib.parse.urlencode(form))))
            answer = self._web.ask("GET", realm._replace(query=query).geturl(), headers)
        with answer:
            if answer.status != 200:
                raise answer.refusal()
            try:
                given = json.loads(answer.whole(_LONGEST))
                token = given.get("token") or given["access_token"]
                if _TOKEN.fullmatch(token):
                    return str(token)
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                pass  # what it says is not shown: it may be half a token
        raise OSError(f"{self._host}: the server of its tokens answers without one")
