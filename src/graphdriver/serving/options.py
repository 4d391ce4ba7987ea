"""Options that the framework takes itself, out of those that a driver is given."""

from __future__ import annotations

from collections.abc import Sequence

from graphdriver.errors import UnsupportedError


def take_option(
    options: Sequence[str], key: str, allowed: tuple[str, str]
) -> tuple[list[str], str]:
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
