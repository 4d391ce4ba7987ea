"""containerd's filter language, with which List selects snapshots.

A filter is a list of selectors, separated by commas, that must all match. Of several filters one must
match; without filters everything matches. A selector is a field (``name``, ``parent``, ``kind``,
``labels.KEY``), alone (the field is present) or with ``==``, ``!=`` or ``~=`` (a regular expression
matches anywhere in it) and a value; a missing field equals only ``""``. Parts of fields and values may
be quoted with ``"``, as in Go; the value of ``~=`` also with ``/`` or ``|``. (containerd, package
``filters``.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NoReturn

from graphdriver.errors import MalformedRequestError

Fields = Callable[[list[str]], str | None]
"""Returns the value of a field, given its path; None if it is missing."""

Filter = Callable[[Fields], bool]

_WORD: Final = re.compile(r"[A-Za-z0-9_]+")
_VALUE: Final = re.compile(r'[^\s,"|/~!=.][^\s,"]*|[^\s,"]+')
_QUOTED: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_OPERATOR: Final = re.compile("==|!=|~=")


def parse_all(texts: Iterable[str]) -> Filter:
    """Return a filter that matches what any of several filters matches.

    Raises:
        MalformedRequestError: one of them is malformed.
    """
    filters = [_Parser(text).filter() for text in texts]
    return lambda fields: not filters or any(one(fields) for one in filters)


def fields_of(name: str, parent: str, kind: str, labels: Mapping[str, str]) -> Fields:
    """Return the fields of a snapshot.

    A snapshot upon nothing has the parent ``""``, as in containerd (``adaptSnapshot``): that is how it
    looks for the first layer of an image.
    """
    simple = {"name": name, "parent": parent, "kind": kind}

    def field(path: list[str]) -> str | None:
        if path[0] == "labels":
            return labels.get(".".join(path[1:])) if len(path) > 1 else None
        return simple.get(path[0]) if len(path) == 1 else None

    return field


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def filter(self) -> Filter:
        """Parse the whole text."""
        selectors = []
        self._skip_blanks()
        while self._at < len(self._text):
            selectors.append(self._selector())
            self._skip_blanks()
            if self._at == len(self._text):
                break
            if self._text[self._at] != ",":
                self._fail("expected a comma")
            self._at += 1
            self._skip_blanks()
        return lambda fields: all(one(fields) for one in selectors)

    def _selector(self) -> Filter:
        path = self._path()
        self._skip_blanks()
        operator = self._match(_OPERATOR)
        if operator is None:
            return lambda fields: fields(path) is not None
        self._skip_blanks()
        value = self._value(is_pattern=operator == "~=")
        if operator == "==":
            return lambda fields: fields(path) == value
        if operator == "!=":
            return lambda fields: (fields(path) or "") != value
        try:
            pattern = re.compile(value)
        except re.error as error:
            self._fail(f"{value!r} is not a regular expression: {error}")
        return lambda fields: pattern.search(fields(path) or "") is not None

    def _path(self) -> list[str]:
        path = [self._part()]
        while self._text[self._at : self._at + 1] == ".":
            self._at += 1
            path.append(self._part())
        return path

    def _part(self) -> str:
        quoted = self._match(_QUOTED)
        if quoted is not None:
            return self._unquoted(quoted)
        word = self._match(_WORD)
        if word is None:
            self._fail("expected the name of a field")
        return word

    def _value(self, *, is_pattern: bool) -> str:
        quoted = self._match(_QUOTED)
        if quoted is not None:
            return self._unquoted(quoted)
        mark = self._text[self._at : self._at + 1]
        if is_pattern and mark in ("/", "|"):
            end = self._text.find(mark, self._at + 1)
            if end < 0:
                self._fail(f"the second {mark} is missing")
            value = self._text[self._at + 1 : end]
            self._at = end + 1
            return value
        value_found = self._match(_VALUE)
        if value_found is None:
            self._fail("expected a value")
        return value_found

    def _unquoted(self, text: str) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            self._fail(f"{text} is not quoted correctly")

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _skip_blanks(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1

    def _fail(self, why: str) -> NoReturn:
        raise MalformedRequestError(f"the filter {self._text!r}, at {self._at}: {why}")
