"""The check of a home, and its repair.

Each part of a home has checks of its own (`graphdriver.homes.ChecksHome`): the framework's files, the
driver's, the engine's records. A check may be made at any time. Beside a plugin it is made twice, since
what the plugin just makes or removes is no damage. A repair takes the home's lock, so no plugin runs
meanwhile. Each repair is one small step that can be interrupted and made again, so that a second run
goes on where the first one ended.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from graphdriver.abilities import ability
from graphdriver.care.engine_checks import ORPHAN, EngineChecks, as_needed, hit_by
from graphdriver.care.engine_records import read_records
from graphdriver.care.findings import Severity
from graphdriver.care.framework_checks import UNFINISHED_LAYER, FrameworkChecks
from graphdriver.care.local_driver import maps_of_group, taken_up
from graphdriver.care.owners import EngineRecords, Owner
from graphdriver.care.ways_out import WAYS_OF_HOME, ways_out
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.loading import describe_exception, load_installed
from graphdriver.drivers.store_checks import CODES, StoreChecks
from graphdriver.errors import GraphDriverError, InUseError, MalformedRequestError
from graphdriver.homes import UNKNOWN_PARENT, ChecksHome, Damage, ReadsHome, RestoresParent
from graphdriver.serving.home import Home, Identity, identity_of, servers_of
from graphdriver.serving.home_contents import OWN

REMOVALS: Final = frozenset({UNFINISHED_LAYER, ORPHAN})
"""The codes of damages that are repaired by the removal of the layer."""

UNCHECKED: Final = "unchecked"
"""The code of the warning that a home's driver is not installed."""

_IN_PROGRESS: Final = CODES | REMOVALS
"""The codes of damages that are, in a served home, what its process just does."""

_PAUSE: Final = 0.3
"""How long the second look at a served home waits, in seconds."""


@dataclass(frozen=True, slots=True)
class FoundDamage:
    """A damage that was found.

    Attributes:
        home: the home.
        damage: what is wrong.
        checks: what found it, and repairs it; None: nothing repairs it.
        owners: what cannot work because content was lost, by the engine's records.
        is_repaired: whether it was repaired.
        failure: why it could not be; ``""`` if it was not tried.
    """

    home: str
    damage: Damage
    checks: ChecksHome | None = None
    owners: tuple[Owner, ...] = ()
    is_repaired: bool = False
    failure: str = ""

    def mend(self) -> None:
        """Repair it; errors as for `graphdriver.homes.ChecksHome.mend_home`."""
        assert self.checks
        self.checks.mend_home(self.home, self.damage)

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return Severity.DAMAGE if self.damage.loses else Severity.WARNING


@dataclass(slots=True)
class CheckedHome:
    """A home and what was found in it.

    Attributes:
        path: its absolute path.
        identity: what its record says; None if that is damaged or missing.
        served_by: the processes that serve it, in words.
        layers: how many layers there are; None: the driver does not list them.
        unfinished: how many layers a plugin is filling, or did not fill to the end.
        records: the engine's records; None: there are none.
        found: what is wrong, the damaged layers first.
        notes: what could not be checked, and why.
    """

    path: str
    identity: Identity | None = None
    served_by: Sequence[str] = ()
    layers: int | None = None
    unfinished: int = 0
    records: EngineRecords | None = None
    found: list[FoundDamage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, found: Iterable[FoundDamage]) -> None:
        """Add what was found, the worst first."""
        self.found = sorted(
            (*self.found, *found),
            key=lambda one: (-one.severity, one.damage.layer, one.damage.code),
        )

    @property
    def ways_out(self) -> list[str]:
        """What to do about the content that was lost; nothing if none was."""
        lost = [one for one in self.found if one.damage.loses and not one.is_repaired]
        ways = [WAYS_OF_HOME[one.damage.code] for one in lost if one.damage.code in WAYS_OF_HOME]
        if any(one.damage.layer for one in lost):
            engine = self.identity.engine if self.identity else ""
            ways += ways_out(engine, (owner for one in lost for owner in one.owners))
        return ways

    @property
    def worst(self) -> Severity | None:
        """The worst severity of all that is not repaired; None if there is nothing."""
        return max((one.severity for one in self.found if not one.is_repaired), default=None)


def check(path: str) -> CheckedHome:
    """Check a home; nothing in it is changed.

    Args:
        path: the home; a plugin may serve it.

    Raises:
        MalformedRequestError: it is not a home.
        OSError: it cannot be read.
    """
    home = CheckedHome(_real(path))
    with contextlib.suppress(GraphDriverError):  # a damaged record is found below
        home.identity = identity_of(home.path)
    home.served_by = servers_of(home.path)
    checks = _all_checks_of(home)
    found = list(_found(home.path, checks))
    unfinished = {one.damage.layer for one in found if one.damage.code == UNFINISHED_LAYER}
    if home.served_by:
        home.unfinished = len(unfinished)
        found = [one for one in found if one.damage.code not in _IN_PROGRESS]
        if found:
            time.sleep(_PAUSE)
            again = {one.damage for one in _found(home.path, checks)}
            found = [one for one in found if one.damage in again]
    engine = home.identity.engine if home.identity else ""
    home.records = records = read_records(home.path, engine)
    if records and engine == "docker":
        home.notes += records.unread
    # What else is wrong with a layer that is incomplete is no news.
    news = (
        one
        for one in found
        if one.damage.code == UNFINISHED_LAYER or one.damage.layer not in unfinished
    )
    driver = driver_of(home)
    home.add(_judged(one, records, driver) for one in news)
    home.add(_unchecked(home))
    home.layers = _count(home.path, driver)
    return home


def _with_parent(
    one: FoundDamage, records: EngineRecords | None, driver: type[ProtoDriver] | None
) -> FoundDamage:
    """Return a damage that can be repaired if the engine knows what the driver has lost."""
    known = records.layers.get(one.damage.layer) if records else None
    restores = ability(driver, RestoresParent)
    if one.damage.code != UNKNOWN_PARENT or not one.damage.loses or not (known and known.parent):
        return one
    if restores is None or not os.path.isdir(os.path.join(one.home, known.parent)):
        return one
    repair = f"note its parent {known.parent} again, which the engine knows"
    damage = replace(one.damage, repair=repair, loses=False)
    return replace(one, damage=damage, checks=_FromRecords(restores, known.parent))


@dataclass(frozen=True, slots=True)
class _FromRecords:
    """Repairs a layer by the engine's record of its parent (`graphdriver.homes.ChecksHome`)."""

    restores: RestoresParent
    parent: str

    def check_home(self, home: str) -> Iterator[Damage]:
        return iter(())

    def mend_home(self, home: str, damage: Damage) -> None:
        self.restores.restore_parent(home, damage.layer, self.parent)


def _judged(
    one: FoundDamage, records: EngineRecords | None, driver: type[ProtoDriver] | None
) -> FoundDamage:
    """Return a damage with all that the engine's records tell of it."""
    return _with_owners(_with_parent(one, records, driver), records)


def _with_owners(one: FoundDamage, records: EngineRecords | None) -> FoundDamage:
    owners = hit_by(one.damage, records)
    damage = as_needed(one.damage, owners) if owners else one.damage
    return replace(one, damage=damage, owners=owners if damage.loses else ())


def repair(home: CheckedHome) -> Iterator[FoundDamage]:
    """Repair what can be repaired, and yield each damage of a home when that was tried.

    Raises:
        InUseError: a process serves the home; the text names it.
        GraphDriverError: the home cannot be locked.
    """
    can = [at for at, one in enumerate(home.found) if one.damage.repair]
    removals = [at for at in can if home.found[at].damage.code in REMOVALS]
    with contextlib.closing(_locked(home.path)):
        now = _now(home)
        for at in can:
            if home.found[at].damage.code not in REMOVALS:
                mend = home.found[at].mend
                yield _tried(home, at, mend if home.found[at].damage in now else _too_late)
    if not removals:
        return
    # Only the driver knows all that belongs to a layer.
    with contextlib.ExitStack() as held:
        try:
            served = held.enter_context(taken_up(home.path))
        except (GraphDriverError, OSError) as error:  # it does not work here
            for at in removals:
                home.found[at] = replace(home.found[at], failure=str(error))
                yield home.found[at]
            return
        now = _now(home)
        for at in removals:
            damage = home.found[at].damage
            remove = functools.partial(served.remove, damage.layer)
            yield _tried(home, at, remove if damage in now else _too_late)
    delete_removed(home)
    home.layers = _count(home.path, driver_of(home))


def _now(home: CheckedHome) -> set[Damage]:
    """Return what is wrong in a locked home, which a plugin may have served since it was checked.

    A layer that was incomplete then may be whole now, and in use.
    """
    records = read_records(home.path, home.identity.engine if home.identity else "")
    found = _found(home.path, _all_checks_of(home))
    driver = driver_of(home)
    return {_judged(one, records, driver).damage for one in found}


def _too_late() -> None:
    """Refuse a repair of what has changed.

    Raises:
        InUseError: always.
    """
    raise InUseError("it has changed since it was found", hint="run fsck again")


def delete_removed(home: CheckedHome) -> None:
    """Delete what removed layers left in the trash, which a driver may do in the background."""
    with contextlib.closing(_locked(home.path)):
        for one in _found(home.path, _checks_of("", driver_of(home))):
            if one.damage.code in CODES:
                with contextlib.suppress(GraphDriverError, OSError):  # the next check finds it
                    one.mend()


def _locked(path: str) -> Home:
    try:
        return Home(path, maps_of_group(path), adopt=True)
    except InUseError as error:
        error.hint = "stop it first; without --repair a home is checked while it is in use"
        raise


def _tried(home: CheckedHome, at: int, mend: Callable[[], None]) -> FoundDamage:
    try:
        mend()
    except (Exception, SystemExit) as error:  # the driver may be anybody's
        failure = str(error) if isinstance(error, GraphDriverError) else describe_exception(error)
        home.found[at] = replace(home.found[at], failure=failure)
    else:
        home.found[at] = replace(home.found[at], is_repaired=True)
    return home.found[at]


def _found(path: str, checks: Sequence[ChecksHome]) -> Iterator[FoundDamage]:
    for one in checks:
        try:
            for damage in one.check_home(path):
                yield FoundDamage(path, damage, one)
        except (GraphDriverError, OSError):
            raise
        except (Exception, SystemExit) as error:  # the driver may be anybody's
            raise GraphDriverError(
                f"the home {path} cannot be checked: {describe_exception(error)}"
            ) from error


def driver_of(home: CheckedHome) -> type[ProtoDriver] | None:
    """Return the class of a home's driver; None if it is unknown or not installed."""
    with contextlib.suppress(GraphDriverError):
        return load_installed(home.identity.driver) if home.identity else None
    return None


def _unchecked(home: CheckedHome) -> Iterator[FoundDamage]:
    """Yield that the layers of a home were not checked, if its driver is not installed."""
    try:
        if home.identity:
            load_installed(home.identity.driver)
    except GraphDriverError as error:
        text = f"only what every home has was checked: {error}"
        yield FoundDamage(home.path, Damage(UNCHECKED, "", text))


def _all_checks_of(home: CheckedHome) -> list[ChecksHome]:
    return _checks_of(home.identity.engine if home.identity else "", driver_of(home))


def _checks_of(engine: str, driver: type[ProtoDriver] | None) -> list[ChecksHome]:
    checks: list[ChecksHome] = [FrameworkChecks(), ability(driver, ChecksHome) or StoreChecks()]
    if reads := ability(driver, ReadsHome):
        checks.append(EngineChecks(engine, reads))
    return checks


def _count(path: str, driver: type[ProtoDriver] | None) -> int | None:
    lists = ability(driver, ReadsHome)
    return sum(1 for _ in lists.stored_layers(path)) if lists else None


def not_a_home(path: str, why: str) -> MalformedRequestError:
    """Return the error for a directory that should be a home.

    Args:
        path: the directory.
        why: what it lacks, as a sentence without a full stop.
    """
    return MalformedRequestError(
        f"{path} is not a home: {why}",
        hint="name the directory that the plugin serves: DATA-ROOT/PLUGIN, or a snapshotter's root",
    )


def _real(path: str) -> str:
    home = os.path.realpath(path)
    if not os.path.isdir(f"{home}/{OWN}"):
        raise not_a_home(home, f"it has no directory {OWN}")
    return home
