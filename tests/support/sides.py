"""A side of a migration: a data root with a home that a driver of ours filled."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from graphdriver.care.migration.conversion import Conversion
from graphdriver.care.migration.homes import driver_in, served_home
from graphdriver.care.migration.id_maps import IDMaps
from graphdriver.care.migration.plan import LayerKind, PlannedLayer, Side
from graphdriver.care.owners import KnownLayer
from graphdriver.driver import Driver, mounted
from graphdriver.linux import xattr
from tests.support.images import chain_id
from tests.support.overlays import opened
from tests.support.tar_split import split
from tests.support.trees import recorded

NO_MAPS = IDMaps()

Edit = Callable[[Path], object]


def side(root: Path, name: str) -> Side:
    """Return the side of a driver of ours in a data root."""
    return Side(str(root), f"py-{name}", name, is_built_in=False)


@contextlib.contextmanager
def driving(there: Side, maps: IDMaps = NO_MAPS) -> Iterator[Driver]:
    """Serve the home of a side for the length of a ``with`` block."""
    with served_home(there.driver, there.home, maps, make=True) as served:
        yield driver_in(served)


class OldSide:
    """A side whose layers a test makes.

    Args:
        there: the side.

    Attributes:
        layers: the layers so far, parents before their children.
    """

    def __init__(self, there: Side) -> None:
        self.side = there
        self.layers: list[PlannedLayer] = []

    def image(self, driver: Driver, id: str, parent: str, tar: bytes) -> None:
        """Make a layer of images as a daemon does, with a record of its tar."""
        driver.create(id, parent, "", {})
        driver.apply_diff(id, parent, io.BytesIO(tar))
        below = next((one.known for one in self.layers if one.id == parent), None)
        record = Path(self.side.records, "layerdb/new.json.gz")
        record.parent.mkdir(parents=True, exist_ok=True)
        diff_id = split(tar, record)
        chain = chain_id([below.chain_id, diff_id] if below else [diff_id])
        kept = record.parent / chain.replace(":", "/")
        kept.mkdir(parents=True)
        record.rename(kept / "tar-split.json.gz")
        known = KnownLayer(id, parent, diff_id=diff_id, chain_id=chain, size=len(tar))
        self.layers.append(PlannedLayer(id, parent, LayerKind.IMAGE, "", known=known))

    def beside(self, root: Path, name: str) -> Side:
        """Return the side of another driver, in another data root with the same records of tars."""
        there = side(root, name)
        Path(there.records).parent.mkdir(parents=True)
        Path(there.records).symlink_to(self.side.records)
        return there

    def written(self, driver: Driver, id: str, parent: str, kind: LayerKind, edit: Edit) -> None:
        """Make a layer as a container or a build does, by writing into its tree."""
        if kind is LayerKind.CONTAINER:
            driver.create_read_write(id, parent, "", {})
        else:
            driver.create(id, parent, "", {})
        with mounted(driver, id) as path:
            edit(Path(path))
        self.layers.append(PlannedLayer(id, parent, kind, ""))


def convert(old: Side, new: Side, layers: list[PlannedLayer]) -> list[str]:
    """Transfer all layers; return the IDs that were told to be there."""
    done: list[str] = []
    Conversion(old, new).transfer(old.home, new.home, layers, lambda one: done.append(one.id))
    return done


def shown(
    there: Side, layers: list[PlannedLayer], maps: IDMaps = NO_MAPS
) -> dict[str, dict[bytes, object]]:
    """Return all that each layer shows in a home."""
    found = {}
    with driving(there, maps) as driver:
        for layer in layers:
            if driver.exists(layer.id):
                with mounted(driver, layer.id) as path:
                    found[layer.id] = seen(path)
    return found


def seen(path: str) -> dict[bytes, object]:
    """Return all that is in a tree, without the time of its root, which no tar need tell."""
    with opened(Path(path)) as (root,):
        tree = recorded(root)
        root_stat = os.fstat(root)
        tree[b""] = (root_stat.st_mode, root_stat.st_uid, root_stat.st_gid, xattr.get_all(root))
    return tree
