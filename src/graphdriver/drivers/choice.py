"""The choice of a driver for a directory: each installed driver is asked how well it suits.

Drivers answer through their optional class methods `graphdriver.abilities.ProbesHome` and
`graphdriver.abilities.ChecksOptions`. A driver without a probe is used only if the user names it.
"""

from __future__ import annotations

import contextlib
import os
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from graphdriver.abilities import ChecksOptions, ProbesHome, Suitability, ability
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.loading import available, describe_exception
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.small_files import read_object


@dataclass(frozen=True, slots=True)
class Finding:
    """The suitability of one driver for a directory; ``cls`` is None if it cannot be used there."""

    name: str
    cls: type[ProtoDriver] | None
    rank: int
    reason: str


def survey(home: str) -> list[Finding]:
    """Probe a directory with every installed driver, and return the best one first.

    Args:
        home: where layers would be kept. If it does not exist yet, the one above it is probed.

    Raises:
        UnsupportedError: something that is not a directory is there, or above it.
    """
    home = _directory_at(home)
    findings = []
    for name, cls in available().items():
        if isinstance(cls, GraphDriverError):
            findings.append(Finding(name, None, -1, str(cls)))
            continue
        try:
            found = probe_driver(cls, home)
        except GraphDriverError as error:
            findings.append(Finding(name, None, -1, str(error)))
        else:
            findings.append(Finding(name, cls, found.rank, found.reason))
    return sorted(findings, key=lambda finding: (-finding.rank, finding.name))


def probe_driver(cls: type[ProtoDriver], home: str) -> Suitability:
    """Return how well a driver suits a directory.

    Args:
        cls: the driver.
        home: as for `survey`.

    Raises:
        UnsupportedError: it does not; or something that is not a directory is there.
        GraphDriverError: the probe failed; the text says why.
    """
    home = _directory_at(home)
    prober = ability(cls, ProbesHome)
    if prober is None:
        return Suitability(0, "not probed: its class has no probe")
    try:
        return _checked(prober.probe(home))
    except GraphDriverError:
        raise
    except (Exception, SystemExit) as error:  # a fault of one driver must not hide the others
        raise GraphDriverError(f"its probe failed: {describe_exception(error)}") from error


def _directory_at(home: str) -> str:
    """Return a directory, or the nearest existing one above it.

    Raises:
        UnsupportedError: something that is not a directory is in the way.
    """
    while not os.path.isdir(home):
        if os.path.lexists(home):
            raise UnsupportedError(
                f"layers cannot be kept at {home}: it is not a directory",
                hint="choose another path, or move it away",
            )
        home = os.path.dirname(home)
    return home


def check_driver(cls: type[ProtoDriver], options: Sequence[str]) -> None:
    """Refuse a driver that cannot work with these options, or on this machine, in any home.

    Raises:
        GraphDriverError: it cannot; the text says why.
    """
    checker = ability(cls, ChecksOptions)
    if checker is None:
        return
    try:
        checker.check(list(options))
    except GraphDriverError:
        raise
    except (Exception, SystemExit) as error:
        raise GraphDriverError(f"the driver's check failed: {describe_exception(error)}") from error


def _checked(found: object) -> Suitability:
    """Return what a probe returned, if it is a `Suitability`."""
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
    """Return the best driver for a directory; of a home with layers, the driver that keeps them.

    Raises:
        UnsupportedError: no driver works there; the text gives each one's reason.
    """
    if keeper := _keeper_of(home):
        return keeper  # without a probe: on a full filesystem it would fail
    findings = survey(home)
    best = next((finding for finding in findings if finding.rank > 0), None)
    if best is None:
        keepers = _keepers_below(home)
        if len({keeper.name for keeper in keepers}) == 1:
            return keepers[0]  # on a full or read-only filesystem no probe works
        reasons = "; ".join(f"{finding.name}: {finding.reason}" for finding in findings)
        raise UnsupportedError(
            f"no driver works on {home}: {reasons}",
            hint="if the filesystem is full or read-only, make room or name the driver",
        )
    return best


def _keepers_below(data_root: str) -> list[Finding]:
    """Return the drivers that claimed homes in a data root, one for each home."""
    with contextlib.suppress(OSError):
        homes = (os.path.join(data_root, name) for name in sorted(os.listdir(data_root)))
        return [keeper for home in homes if (keeper := _keeper_of(home))]
    return []


def _keeper_of(home: str) -> Finding | None:
    """Return the driver that claimed a home; None if none did, or it is not installed."""
    try:
        claimed = read_object(os.path.join(home, ".graphdriver", "home.json"))["driver"]
    except (OSError, ValueError, KeyError):
        return None
    for name, cls in available().items():
        if isinstance(cls, type) and claimed == (cls.driver_name or cls.__name__):
            return Finding(name, cls, 0, "it keeps the layers in this home")
    return None
