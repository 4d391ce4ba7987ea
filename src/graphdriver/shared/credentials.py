"""Who this node is to a registry: the credentials that ``docker login`` and ``podman login`` keep.

They come from the file that ``REGISTRY_AUTH_FILE`` names, or else from ``config.json`` in
``DOCKER_CONFIG``, or else in ``~/.docker``. A program that the file names comes first, as for Docker:
that of the registry in ``credHelpers``, or else ``credsStore``. They are never printed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from typing import Final

from graphdriver.errors import UnsupportedError
from graphdriver.shared.credential_helper import ask_helper

_IDENTITY: Final = "<token>"
"""The user name that a helper gives with a token of the registry."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or a token that stands for both.

    Attributes:
        user: the name.
        password: the password.
        identity: a token of the registry that other tokens are got by; ``""`` if it gave none.
    """

    user: str
    password: str = field(repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The header Authorization of the scheme Basic."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def credentials_for(host: str, repository: str) -> Credentials | None:
    """Return the credentials for a repository; None if there are none.

    An entry for the repository, or for the beginning of its name, comes before one for the host.

    Args:
        host: the registry's, with its port if it has one.
        repository: the repository's name.

    Raises:
        UnsupportedError: the file or a helper cannot be used; the text does not show what is in it.
    """
    path = _file()
    try:
        with open(path, "rb") as file:
            config = json.load(file)
        helper = (config.get("credHelpers") or {}).get(host) or config.get("credsStore")
        if helper and (kept := ask_helper(helper, host)):
            user, secret = kept
            is_token = user == _IDENTITY
            return Credentials("", "", secret) if is_token else Credentials(user, secret)
        entries = config.get("auths") or {}
        names = f"{host}/{repository}".split("/")
        for count in range(len(names), 0, -1):
            name = "/".join(names[:count])
            if entry := entries.get(name) or entries.get(f"https://{name}"):
                return _credentials(entry)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsupportedError(
            f"the credentials {path} cannot be read: {error.strerror}"
        ) from error
    except (ValueError, TypeError, AttributeError, RecursionError):
        # Without the cause: it may show a password.
        raise UnsupportedError(
            f"the credentials {path} are damaged", hint=f"log in to {host} again"
        ) from None
    return None


def _file() -> str:
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return named
    return os.path.join(
        os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json"
    )


def _credentials(entry: dict[str, str]) -> Credentials | None:
    user, password = entry.get("username", ""), entry.get("password", "")
    if encoded := entry.get("auth"):
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except binascii.Error as error:
            raise ValueError from error
        user, _, password = decoded.partition(":")
    token = entry.get("identitytoken", "")
    return Credentials(user, password.strip("\0"), token) if user or token else None
