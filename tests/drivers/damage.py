"""Ways in which a small file may be damaged, drawn from a seed."""

from __future__ import annotations

import json
import random
from typing import Any

WHOLE = (
    *(b"", b"\0" * 64, b"\xff\xfe", b"{", b"[]", b"{}", b"null", b'"\\ud800"', b"1e999", b"\n\n"),
    *(b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"x" * (5 << 20), b" " * 70, b"-1"),
)
"""Contents that take a reader by surprise: nothing, deep, long, of another kind."""

VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    "",
    "x\ny",
    "\ud800",
    "a\0b",
    [],
    [[]],
    {},
    {"a": None},
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return other bytes than these."""
    while True:
        way = chance.choice((_replaced, _cut, _flipped, _mixed, _random, _of_other_values))
        found = way(data, chance)
        if found != data:
            return found


def _replaced(_data: bytes, chance: random.Random) -> bytes:
    return chance.choice(WHOLE)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        if found:
            found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def _mixed(data: bytes, chance: random.Random) -> bytes:
    one, other = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return (
        data[:one] + chance.choice((b"", chance.randbytes(9), data[one:other] * 2)) + data[other:]
    )


def _random(_data: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(200))


def _of_other_values(data: bytes, chance: random.Random) -> bytes:
    """Return the same JSON but for one value, or one that is missing."""
    try:
        document = json.loads(data)
    except ValueError:
        return data
    places: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        one = pending.pop()
        if isinstance(one, dict | list):
            keys = list(one) if isinstance(one, dict) else range(len(one))
            places += [(one, key) for key in keys]
            pending += [one[key] for key in keys]
    if places:
        holder, key = chance.choice(places)
        if isinstance(holder, dict) and chance.random() < 0.2:
            del holder[key]
        else:
            holder[key] = chance.choice(VALUES)
    return json.dumps(document).encode()
