"""Whose fault it is when the kernel refuses an entry: the tar's, the filesystem's, or the machine's."""

from __future__ import annotations

import errno
from typing import NoReturn

from graphdriver.errors import BadArchiveError, GraphDriverError, UnsupportedError
from graphdriver.layer.fields import show
from graphdriver.layer.header import Entry

_BAD_WAY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})
_NOT_HERE = frozenset(
    {errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.EMLINK, errno.EFBIG, errno.EPERM}
)


def raise_about(entry: Entry, error: OSError) -> NoReturn:
    """Say of which entry, and whose fault it is.

    Raises:
        GraphDriverError: always.
    """
    problem = f"{show(entry.name)}: {error.strerror or error}"
    if error.errno in _BAD_WAY:
        raise BadArchiveError(problem) from error
    if error.errno in _NOT_HERE:
        raise UnsupportedError(problem) from error
    raise GraphDriverError(problem) from error
