"""What a daemon that was killed has left behind: let go of at the Init of the next one.

A daemon that is killed does not Put what it got, nor Remove what it was filling. Whether it is known to
be gone is the affair of `graphdriver.docker.residence`. A mount whose layer has no child stays: it may
be that of a container, or of a step of a build, that lives on.
"""

from __future__ import annotations

import logging

from graphdriver.driver import Driver, FindsLeftovers, ability
from graphdriver.serving.home import Home

_log = logging.getLogger(__name__)


def sweep(driver: Driver, home: Home) -> None:
    """Let go of mounts and half layers that nobody needs any more; what fails is logged.

    Args:
        driver: asked if it has the ability `graphdriver.driver.FindsLeftovers`.
        home: the driver's, with the marks of unfinished layers.
    """
    finder = ability(driver, FindsLeftovers)
    if finder is None:
        return
    try:
        finder.release_leftovers()
    except Exception:
        _log.exception("mounts that a former daemon left cannot be let go of")
    for id in home.unfinished():
        try:
            if finder.is_leftover(id) is True:
                driver.remove(id)
                home.unmark(id)
                _log.info("removed layer %s, which a former daemon has not finished", id)
        except Exception:
            _log.exception("the unfinished layer %s cannot be removed", id)
