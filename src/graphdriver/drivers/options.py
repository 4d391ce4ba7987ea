"""Options of drivers: their list in a driver, and their parser.

Each of our driver classes lists its options in its attribute ``options``. To add one, add an
`Option` to that list and read its value in the driver's ``init`` (overlay2, erofs and fuse-overlayfs:
`graphdriver.drivers.overlay.options.HomeOptions.parse`); error texts name it from then on, and a test
asks for a line in docs/drivers.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphdriver.errors import UnsupportedError

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_UNITS: Final = " kmgtp"
_LIMIT: Final = 1 << 63  # an offset in a file has 63 bits (lseek(2))


@dataclass(frozen=True, slots=True)
class Option:
    """One option that a driver takes.

    Attributes:
        example: ``key=value``, as a user writes it.
        help: what it sets, in one phrase.
    """

    example: str
    help: str

    @property
    def name(self) -> str:
        """The key."""
        return self.example.partition("=")[0]


def read_options(
    options: Iterable[tuple[str, str]], known: Sequence[Option], driver: str
) -> Mapping[str, str]:
    """Return the values of options by their names in lower case; the last one of a name counts.

    Args:
        options: keys and values; keys in upper or lower case, with or without Docker's prefix
            (``overlay2.size``).
        known: the options that can be given here.
        driver: the driver's name.

    Raises:
        UnsupportedError: an option is not among ``known``.
    """
    names = {option.name for option in known}
    values = {}
    for key, value in options:
        name = key.lower().removeprefix(f"{driver}.")
        if name not in names:
            takes = (
                "; ".join(f"{option.example} ({option.help})" for option in known) or "no option"
            )
            raise UnsupportedError(f"{driver}: unknown option {key!r}", hint=f"it takes {takes}")
        values[name] = value
    return values


def split_options(options: Iterable[str]) -> list[tuple[str, str]]:
    """Return the keys and values of options as the daemon sends them, ``key=value`` each."""
    return [(key, value) for key, _, value in (option.partition("=") for option in options)]


def parse_size(text: str) -> int:
    """Return a size in bytes, read as Docker reads ``10G``, ``512m`` or ``1.5 TiB`` (powers of 1024).

    Raises:
        UnsupportedError: it is not a size, or more than a file can have.
    """
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * 1024 ** _UNITS.index(found[2].lower() or " ") if found else _LIMIT
    if size >= _LIMIT:
        raise UnsupportedError(f"{text[:40]!r} is not a size", hint="write 10G or 512m")
    return int(size)
