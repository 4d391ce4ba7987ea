"""The homes of a migration, served in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from graphdriver.care.migration.id_maps import IDMaps
from graphdriver.driver import Driver
from graphdriver.drivers import loading
from graphdriver.linux.namespaces import unshare_mounts
from graphdriver.naive import NaiveDiffDriver
from graphdriver.serving.served_home import ServedHome


def keep_mounts_private() -> None:
    """Let the mounts of this process end with it, also when it is killed.

    Called before there are other threads: a thread that runs already keeps the mounts of all.

    Raises:
        OSError: the kernel refused.
    """
    unshare_mounts()


@contextlib.contextmanager
def served_home(
    driver: str, home: str, maps: IDMaps, options: Sequence[str] = (), *, make: bool
) -> Iterator[ServedHome]:
    """Serve a home in this process for the length of a ``with`` block; unmount all at its end.

    Args:
        driver: the name of an installed driver.
        home: its absolute path.
        maps: the daemon's.
        options: as for `ServedHome.claim`.
        make: whether it is made if it does not exist.

    Raises:
        InUseError: another process serves it; the text names it.
        UnsupportedError: the driver is not installed, or cannot serve this home.
        GraphDriverError: it cannot be made or read.
    """
    loading.load_installed(driver)
    made = loading.make(driver)
    whole = made if isinstance(made, Driver) else NaiveDiffDriver(made)
    served = ServedHome(whole, "docker")
    with contextlib.closing(served):
        served.claim(home, options, maps.gids, make=make)
        served.init_driver(maps.uids, maps.gids)
        served.home.bind(whole.capabilities().reproduces_exact_diffs)
        try:
            yield served
        finally:
            whole.cleanup()


def driver_in(served: ServedHome) -> Driver:
    """Return the driver of a home that `served_home` serves."""
    assert isinstance(served.driver, Driver)
    return served.driver
