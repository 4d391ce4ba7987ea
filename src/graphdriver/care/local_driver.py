"""A home taken up by its own driver in this process, to remove layers while no plugin serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.driver import IDMap
from graphdriver.drivers.loading import load_installed, make
from graphdriver.errors import UnsupportedError
from graphdriver.serving.home import identity_of
from graphdriver.serving.served_home import ServedHome


@contextlib.contextmanager
def taken_up(home: str) -> Iterator[ServedHome]:
    """Take up a home for the length of a ``with`` block. Mounts and layers stay as they are.

    The driver gets no options and no ID maps, so no layer may be created.

    Raises:
        InUseError: a process serves it; the text names it.
        UnsupportedError: its driver is not installed, or does not work here.
        GraphDriverError: it cannot be taken up.
    """
    identity = identity_of(home)
    if identity is None:
        raise UnsupportedError(
            f"the home {home} has no record of its driver", hint=f"graphdriver fsck {home}"
        )
    load_installed(identity.driver)
    served = ServedHome(make(identity.driver), identity.engine)
    with contextlib.closing(served):
        served.claim(home, gid_maps=maps_of_group(home), make=False)
        served.init_driver()
        yield served


def maps_of_group(home: str) -> tuple[IDMap, ...]:
    """Return maps of group ids under which a home keeps the group that it has."""
    group = os.stat(home).st_gid
    return (IDMap(0, group, 1),) if group else ()
