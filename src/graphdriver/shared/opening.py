"""Which kind of store an address names."""

from __future__ import annotations

import os
import urllib.parse

from graphdriver.errors import MalformedRequestError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.store import Store


def open_store(address: str) -> Store:
    """Open a store.

    Args:
        address: a path of a directory, or such a path as a URL: ``file:///mnt/layers``.

    Raises:
        MalformedRequestError: it is no address of a store.
        UnsupportedError: the store cannot be opened.
    """
    if "://" not in address:
        return DirectoryStore(os.path.abspath(address))
    url = urllib.parse.urlsplit(address)
    match url.scheme:
        case "file" if not url.netloc and os.path.isabs(url.path):
            return DirectoryStore(urllib.parse.unquote(url.path))
        case _:
            raise MalformedRequestError(
                f"{_printed(address)} is no address of a store",
                hint="give a directory, or file:///DIRECTORY",
            )


def _printed(address: str) -> str:
    """Return an address without what may be a password."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
