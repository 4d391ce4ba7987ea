"""Diffs and lists of Changes, in a form that can be compared.

A plugin may write PAX or GNU headers, list a parent directory or not, spell names with ``./``: a case
compares the meaning, not the form.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterable

from graphdriver.conformance.kit.expect import Mismatch
from graphdriver.driver import ChangeKind, Driver
from graphdriver.errors import GraphDriverError
from graphdriver.layer.tar.entry import EntryType
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tree.resolver import clean

_LETTERS = {ChangeKind.MODIFIED: "C", ChangeKind.ADDED: "A", ChangeKind.DELETED: "D"}


def entries(data: bytes) -> dict[str, tarfile.TarInfo]:
    """Return a tar's entries by name, without outer slashes and without the root's own entry.

    Raises:
        Mismatch: it cannot be read, holds a name twice, or one that leads out of the layer.
    """
    _expect_no_harm(data)
    found: dict[str, tarfile.TarInfo] = {}
    try:
        # Never "r": it decompresses without a limit.
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as tar:
            for entry in tar:
                name = posixpath.normpath("/" + entry.name).lstrip("/")
                if name in found:
                    raise Mismatch("the entries of a Diff", f"{name!r} twice", "each name once")
                found[name] = entry
    except tarfile.TarError as error:
        raise Mismatch("a Diff", f"{error} (Python's tarfile)", "a tar") from error
    found.pop("", None)
    return found


def _expect_no_harm(data: bytes) -> None:
    """Read a Diff with our own reader first, which no header can block forever."""
    reader = TarReader(io.BytesIO(data))
    try:
        for entry in reader:
            clean(entry.name)
            if entry.type is EntryType.HARD_LINK:
                clean(entry.link)
    except GraphDriverError as error:
        raise Mismatch("a Diff", str(error), "a tar of the layer's content") from error


def expect_changes(
    what: str, driver: Driver, id: str, parent: str, expected: Iterable[str]
) -> None:
    """Compare Changes, in any order, with lines as ``docker diff`` shows them.

    Raises:
        Mismatch: they differ; it holds the lines that only one side has.
    """
    changes = driver.changes(id, parent)
    saw = Counter(line(_LETTERS[change.kind], change.path) for change in changes)
    wanted = Counter(expected)
    if saw != wanted:
        raise Mismatch(
            f"{what}, where it differs",
            ", ".join(sorted((saw - wanted).elements())) or "nothing more",
            ", ".join(sorted((wanted - saw).elements())) or "nothing more",
        )


def line(letter: str, path: str | bytes) -> str:
    """Return a change as docker diff shows it: ``C /etc``, U+FFFD for a byte that is not UTF-8."""
    text = "/" + os.fsdecode(path) if isinstance(path, bytes) else path
    return f"{letter} " + re.sub("[\ud800-\udfff]", "\ufffd", text)
