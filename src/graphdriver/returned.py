"""Checks of the values that a driver's methods return.

A driver may be written by anybody, and Python checks no types: a value that breaks the contract
(`graphdriver.driver`) would cause an error later and elsewhere, or be sent to a daemon. The error names
the method, the value and the rule.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeGuard

from graphdriver.abilities import Mount, Usage
from graphdriver.driver import Capabilities, Change, ChangeKind, ClosableStream
from graphdriver.errors import GraphDriverError

LONGEST_PATH: Final = 4095
"""The longest path that the kernel takes, in bytes (``PATH_MAX`` with its NUL)."""

DIRECTORY_RULE: Final = "an absolute path of a directory, not '/', without '.', '..' or '//'"

_AMONG: Final = " among others"

_shown: Final = reprlib.Repr()  # a driver's value may have millions of members
_shown.maxstring = _shown.maxlong = _shown.maxother = 60


def is_directory_path(path: str) -> bool:
    """Tell whether a path can be the root of a layer; does not look at the filesystem."""
    return (
        len(path) > 1
        and os.path.isabs(path)
        and not path.startswith("//")
        and os.path.normpath(path) == path
        and "\0" not in path
        and len(path.encode("utf-8", "surrogatepass")) <= LONGEST_PATH
    )


def directory(value: object) -> str:
    """Check and return the value of ``get``: the path of a layer's root."""
    if not isinstance(value, str) or not is_directory_path(value):
        raise _wrong("get", value, DIRECTORY_RULE)
    return value


def truth(value: object) -> bool:
    """Check and return the value of ``exists``."""
    if not isinstance(value, bool):
        raise _wrong("exists", value, "True or False")
    return value


def pairs(value: object) -> tuple[tuple[str, str], ...]:
    """Check and return the value of ``status``."""
    rule = "a sequence of pairs of strings"
    found = []
    for one in _each("status", value, rule):
        if not isinstance(one, tuple | list) or len(one) != 2:
            raise _wrong("status", one, rule, _AMONG)
        name, text = one
        if not isinstance(name, str) or not isinstance(text, str):
            raise _wrong("status", one, rule, _AMONG)
        found.append((name, text))
    return tuple(found)


def text_map(value: object) -> Mapping[str, str]:
    """Check and return the value of ``get_metadata``."""
    rule = "a mapping of strings to strings"
    if not isinstance(value, Mapping):
        raise _wrong("get_metadata", value, rule)
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise _wrong("get_metadata", {name: text}, rule, _AMONG)
    return value


def changes(value: object) -> Iterator[Change]:
    """Check and yield the items of ``changes``."""
    rule = "an iterable of Change, each with a path that begins with '/' and a ChangeKind"
    for one in _each("changes", value, rule):
        if (
            not isinstance(one, Change)
            or not isinstance(one.path, str)
            or not one.path.startswith("/")
            or not isinstance(one.kind, ChangeKind)
        ):
            raise _wrong("changes", one, rule, _AMONG)
        yield one


def size(method: str, value: object) -> int:
    """Check and return the value of ``apply_diff`` or ``diff_size``."""
    if not _is_count(value):
        raise _wrong(method, value, "a number of bytes, an int from 0 to 2^63 - 1")
    return value


def stream(value: Any) -> ClosableStream:
    """Check and return the value of ``diff``."""
    if not callable(getattr(value, "read", None)) or not callable(getattr(value, "close", None)):
        raise _wrong("diff", value, "a stream with read(n) and close()")
    return value  # type: ignore[no-any-return]


def piece(value: object) -> bytes:
    """Check and return a piece that the stream of ``diff`` returned."""
    if not isinstance(value, bytes | bytearray | memoryview):  # a non-blocking file returns None
        raise _wrong("read of what diff returned", value, "bytes, b'' at the end")
    return value  # type: ignore[return-value]


def capabilities(value: object) -> Capabilities:
    """Check and return the value of ``capabilities``."""
    if not isinstance(value, Capabilities) or not isinstance(value.reproduces_exact_diffs, bool):
        raise _wrong("capabilities", value, "a Capabilities, its members True or False")
    return value


def mounts(value: object) -> tuple[Mount, ...]:
    """Check and return the value of ``mounts``."""
    rule = "a sequence of Mount, of a type, a source and options that are strings"
    found = []
    for one in _each("mounts", value, rule):
        if (
            not isinstance(one, Mount)
            or not isinstance(one.options, tuple | list)
            or not all(isinstance(text, str) for text in (one.type, one.source, *one.options))
        ):
            raise _wrong("mounts", one, rule, _AMONG)
        found.append(one)
    return tuple(found)


def usage(value: object) -> Usage:
    """Check and return the value of ``usage``."""
    if not isinstance(value, Usage) or not _is_count(value.size) or not _is_count(value.inodes):
        raise _wrong("usage", value, "a Usage of two numbers from 0 to 2^63 - 1")
    return value


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _each(method: str, value: object, rule: str) -> Iterator[object]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(method, value, rule)
    return iter(value)


def _wrong(method: str, value: object, rule: str, where: str = "") -> GraphDriverError:
    shown = _shown.repr(value)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    kind = type(value).__name__
    return GraphDriverError(
        f"the driver's {method} returned {shown} ({kind}){where}, and must return {rule}",
        hint="correct the driver",
    )
