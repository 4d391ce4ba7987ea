"""The framework's own options, ``adopt`` and ``sync``, which are given together with a driver's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphdriver.errors import UnsupportedError


class SplitOptions(NamedTuple):
    """The driver's options, and the values of the framework's.

    Attributes:
        driver: the options that the driver gets.
        adopt: whether a directory that holds other files may become the home.
        syncs: whether a layer is on disk before its call is answered.
    """

    driver: list[str]
    adopt: bool
    syncs: bool


def split_framework_options(options: Sequence[str]) -> SplitOptions:
    """Split options into the driver's and the framework's.

    Raises:
        UnsupportedError: one of the framework's has a wrong value.
    """
    rest, adopt = _take(options, "adopt", ("no", "yes"))
    rest, sync = _take(rest, "sync", ("layer", "none"))
    return SplitOptions(rest, adopt == "yes", sync == "layer")


def _take(options: Sequence[str], key: str, allowed: tuple[str, str]) -> tuple[list[str], str]:
    """Take an option out of those for a driver.

    Args:
        options: each ``key=value``; of several with this key the last one counts.
        key: the option's key.
        allowed: its values, the default first.

    Returns:
        The other options, and the value.

    Raises:
        UnsupportedError: it has another value.
    """
    default, other = allowed
    found = default
    rest = []
    for option in options:
        name, _, value = option.partition("=")
        if name != key:
            rest.append(option)
        elif value in allowed:
            found = value
        else:
            raise UnsupportedError(
                f"option {option}: {key} is {default!r} (the default) or {other!r}"
            )
    return rest, found
