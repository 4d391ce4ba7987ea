"""Which driver to use in a place: each one is asked how well it would do there.

What a driver's class can be asked is in `graphdriver.driver`: `ProbesHome` and `ChecksOptions`. A class
without `ProbesHome` works everywhere, as far as anybody knows, and is never chosen by itself.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from graphdriver.driver import ChecksOptions, ProbesHome, ProtoDriver, Suitability, ability
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.small_files import read_object


@dataclass(frozen=True, slots=True)
class Finding:
    """What a survey found of one driver; ``cls`` is None if it cannot be used."""

    name: str
    cls: type[ProtoDriver] | None
    rank: int
    reason: str


def survey(home: str) -> list[Finding]:
    """Ask every driver that is installed, the best one first.

    Args:
        home: where layers would be kept. What is not there yet is judged by the directory above it.

    Raises:
        UnsupportedError: something that is not a directory is there, or above it.
    """
    home = _directory_at(home)
    from graphdriver.drivers import available

    findings = []
    for name, cls in available().items():
        if isinstance(cls, GraphDriverError):
            findings.append(Finding(name, None, -1, str(cls)))
            continue
        try:
            found = look(cls, home)
        except GraphDriverError as error:
            findings.append(Finding(name, None, -1, str(error)))
        else:
            findings.append(Finding(name, cls, found.rank, found.reason))
    return sorted(findings, key=lambda finding: (-finding.rank, finding.name))


def look(cls: type[ProtoDriver], home: str) -> Suitability:
    """Ask a driver how well it would do in a place.

    Args:
        cls: the driver.
        home: as for `survey`.

    Raises:
        UnsupportedError: it would not do; or something that is not a directory is there.
        GraphDriverError: that cannot be told; the text says why.
    """
    from graphdriver.drivers import described

    home = _directory_at(home)
    prober = ability(cls, ProbesHome)
    if prober is None:
        return Suitability(0, "says nothing of where it works")
    try:
        return _checked(prober.probe(home))
    except GraphDriverError:
        raise
    except (Exception, SystemExit) as error:  # one driver's fault keeps nobody from the others
        raise GraphDriverError(f"its probe failed: {described(error)}") from error


def _directory_at(home: str) -> str:
    """Return a directory, or the one above it if it is not there yet.

    Raises:
        UnsupportedError: something that is not a directory is in the way.
    """
    while not os.path.isdir(home):
        if os.path.lexists(home):
            raise UnsupportedError(
                f"no layers can be kept at {home}: it is not a directory",
                hint="choose another path, or move it away",
            )
        home = os.path.dirname(home)
    return home


def check(cls: type[ProtoDriver], options: Sequence[str]) -> None:
    """Refuse a driver that cannot work with these options, or on this machine, in any home.

    Raises:
        GraphDriverError: it cannot; the text says why.
    """
    from graphdriver.drivers import described

    checker = ability(cls, ChecksOptions)
    if checker is None:
        return
    try:
        checker.check(list(options))
    except GraphDriverError:
        raise
    except (Exception, SystemExit) as error:
        raise GraphDriverError(f"the driver's check failed: {described(error)}") from error


def _checked(found: object) -> Suitability:
    """Return what a probe returned, if it is what it should be."""
    if (
        not isinstance(found, Suitability)
        or not isinstance(found.rank, int)
        or not isinstance(found.reason, str)
    ):
        raise GraphDriverError(
            f"its probe returned {reprlib.repr(found)}, and must return a Suitability",
            hint="correct the driver",
        )
    return found


def choose(home: str) -> Finding:
    """Return the best driver for a place; of a home with layers, the one that keeps them.

    Raises:
        UnsupportedError: none works there; the text says why of each.
    """
    if keeper := _keeper_of(home):
        return keeper  # unprobed: nothing can be written to a home that is full
    findings = survey(home)
    best = next((finding for finding in findings if finding.rank > 0), None)
    if best is None:
        reasons = "; ".join(f"{finding.name}: {finding.reason}" for finding in findings)
        raise UnsupportedError(f"no driver works on {home}: {reasons}")
    return best


def _keeper_of(home: str) -> Finding | None:
    """Return the driver that a home was claimed for; None if no driver has, or it is not installed."""
    from graphdriver.drivers import available

    try:
        claimed = read_object(os.path.join(home, ".graphdriver", "home.json"))["driver"]
    except (OSError, ValueError, KeyError):
        return None
    for name, cls in available().items():
        if isinstance(cls, type) and claimed == (cls.driver_name or cls.__name__):
            return Finding(name, cls, 0, "it keeps the layers that are there")
    return None
