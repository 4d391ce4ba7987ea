"""Which kind of store an address names.

::

    /mnt/layers, file:///mnt/layers    a directory
    oci://HOST[:PORT]/REPOSITORY       a repository of a registry
    oci+http://HOST[:PORT]/REPOSITORY  the same over plain HTTP
    s3://BUCKET[/PREFIX]               a bucket of S3; the server is named in the environment

Images are compressed in a registry and in a bucket, and are as they are in a directory.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from typing import Final

from graphdriver.errors import MalformedRequestError, UnsupportedError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.store import Store

_HOST: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NAME: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_PREFIX: Final = re.compile(rf"(?:{_NAME}(?:/{_NAME})*/?)?")
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*")


def open_store(address: str, *, may_be_new: bool = False) -> Store:
    """Open a store, which need not be there yet.

    Args:
        address: see above.
        may_be_new: whether a directory that is not a store becomes one when a layer is put there.

    Raises:
        MalformedRequestError: it is no address of a store.
        UnsupportedError: it cannot be one, or what it needs is not installed.
    """
    if "://" not in address:
        return DirectoryStore(os.path.abspath(address), may_be_new=may_be_new)
    scheme, _, rest = address.partition("://")
    place, _, name = rest.partition("/")
    match scheme:
        case "file" if name and not place:
            path = os.path.abspath(f"/{urllib.parse.unquote(name)}")
            return DirectoryStore(path, may_be_new=may_be_new)
        case "oci" | "oci+http" if _is_host(place) and _REPOSITORY.fullmatch(name):
            return _registry(address, place, name, is_plain=scheme == "oci+http")
        case "s3" if _BUCKET.fullmatch(place) and _PREFIX.fullmatch(name):
            return _bucket(address, place, name.rstrip("/"))
        case _:
            raise MalformedRequestError(
                # Without what may be a password.
                f"{scheme}://{rest.rpartition('@')[2]} is no address of a store",
                hint="give a directory, oci://HOST/REPOSITORY, or s3://BUCKET/PREFIX",
            )


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found[1] or 443) in range(1, 1 << 16)


def _registry(address: str, host: str, name: str, *, is_plain: bool) -> Store:
    try:
        from graphdriver.shared.compressed import CompressedStore
        from graphdriver.shared.registry import RegistryStore
        from graphdriver.shared.repository import Repository
    except ImportError as error:
        raise _needs(error, "registry") from error
    repository = Repository(host, name, is_plain=is_plain)
    return CompressedStore(RegistryStore(address, repository))


def _bucket(address: str, name: str, prefix: str) -> Store:
    try:
        from graphdriver.shared.compressed import CompressedStore
        from graphdriver.shared.s3 import S3Store
    except ImportError as error:
        raise _needs(error, "s3") from error
    return CompressedStore(S3Store(address, name, prefix))


def _needs(error: ImportError, extra: str) -> UnsupportedError:
    return UnsupportedError(
        f"such a store needs {error.name}, which is not installed",
        hint=f"pip install 'graphdriver[{extra}]'",
    )
