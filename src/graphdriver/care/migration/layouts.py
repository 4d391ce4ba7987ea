"""The layers of a side, in whatever layout its driver keeps them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from graphdriver.abilities import ability
from graphdriver.care.garbage import layers_in
from graphdriver.care.migration.plan import Side
from graphdriver.drivers.loading import available, load_installed
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.directories import opened
from graphdriver.homes import DockersOwn, KnowsDockersOwn, StoredLayer
from graphdriver.layer.tree.remove import remove_tree


def dockers_own(driver: str) -> DockersOwn | None:
    """Return what an installed driver knows of Docker's own driver of its name; None if nothing.

    Raises:
        UnsupportedError: it is not installed.
    """
    knows = ability(load_installed(driver), KnowsDockersOwn)
    return knows.dockers_own() if knows else None


def has_another_layout(own: DockersOwn) -> bool:
    """Tell whether layers have other paths in homes of Docker's own driver than in ours."""
    return own.unit("", "id", is_dockers=True) != own.unit("", "id", is_dockers=False)


def known_built_in(driver: str) -> DockersOwn:
    """Return what is known of one of Docker's own drivers.

    Raises:
        UnsupportedError: nothing is.
    """
    known: dict[str, DockersOwn] = {}
    for name, cls in available().items():
        knows = None if isinstance(cls, GraphDriverError) else ability(cls, KnowsDockersOwn)
        if knows:
            known[name] = knows.dockers_own()
    if driver not in known:
        raise UnsupportedError(
            f"the layers of Docker's own driver {driver} cannot be moved",
            hint=f"those of {', '.join(sorted(known))} can; save the images and load them on the"
            " other side",
        )
    return known[driver]


def expect_known(side: Side) -> None:
    """Check that a side's layout is known.

    Raises:
        UnsupportedError: it is another driver of Docker's own, or one that is not installed.
    """
    if side.is_built_in:
        known_built_in(side.driver)
    else:
        load_installed(side.driver)


def layers_of(side: Side, home: str) -> Iterator[StoredLayer]:
    """Yield the layers of a home; nothing is written.

    Args:
        side: whose layout the home has.
        home: where it is now.

    Raises:
        UnsupportedError: the driver is not installed, or cannot list its layers.
        OSError: the home cannot be read.
    """
    if side.is_built_in:
        yield from known_built_in(side.driver).layers(home)
    else:
        yield from layers_in(home, side.driver).values()


def remove_home(side: Side, home: str) -> None:
    """Remove a home with all its layers; succeed if it does not exist.

    Raises:
        OSError: it cannot be removed.
    """
    directory, name = os.path.split(home)
    if own := dockers_own(side.driver):
        own.remove(directory, name)
        return
    with opened(directory) as fd:
        remove_tree(fd, os.fsencode(name))
