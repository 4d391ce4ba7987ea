"""Layers' tars into snapshots' layers, wherever the tars come from."""

from __future__ import annotations

from collections.abc import Callable

from graphdriver import returned
from graphdriver.driver import Driver, ReadStream
from graphdriver.naive import NaiveDiffDriver
from graphdriver.serving.served_home import ServedHome


class Filler:
    """Fills layers by the driver that keeps them.

    Args:
        served: the driver and its home.

    Attributes:
        driver: the driver, complete: with the naive differ if it has none.
    """

    def __init__(self, served: ServedHome) -> None:
        self._served = served
        driver = served.driver
        self.driver = driver if isinstance(driver, Driver) else NaiveDiffDriver(driver)

    def fill(
        self,
        layer: str,
        parent: str,
        tar: ReadStream,
        link: Callable[[str], bool] | None = None,
    ) -> None:
        """Fill a layer, which is locked and has passed `ServedHome.expect_fillable`.

        Args:
            layer: the layer; without a parent it may get one from Commit.
            parent: its parent, or ``""``.
            tar: its tar.
            link: as for `ServedHome.filling`.

        Raises:
            BadArchiveError: the tar is damaged or hostile.
            BrokenStreamError: it breaks off.
            OSError: the layer cannot be written to the disk.
        """
        later = self._served.takes_parent_later
        with self._served.filling(layer, tar, link=link) as archive:
            if later and not parent:
                returned.size("apply_before_parent", later.apply_before_parent(layer, archive))
            else:
                returned.size("apply_diff", self.driver.apply_diff(layer, parent, archive))
