"""The way between two drivers: each layer is read as a tar, and the tar applied by the new driver.

- A layer of images comes from the very tar that the daemon once got: its ``tar-split.json.gz`` and the
  files of the layer (`graphdriver.care.tar_split`). The digest must be the layer's diff ID, and the
  daemon's record of the tar stays right.
- Other layers (of BuildKit, containers, their ``-init`` layers) come from the old driver's Diff. Their
  changes must have the same size in both homes.
- A layer that no record names is left behind: no daemon ever asks for it.

The old home is only read. One of Docker's own is shown as Docker shows it
(`graphdriver.drivers.docker_homes`), so marks that our mounts do not follow are followed here,
and are gone in the new home. A new home is written by our driver, so it can become one of Docker's own
only where both have one layout.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from graphdriver.abilities import TellsUntouched, ability
from graphdriver.care.migration.homes import driver_in, served_home
from graphdriver.care.migration.id_maps import maps_of
from graphdriver.care.migration.layouts import dockers_own, has_another_layout
from graphdriver.care.migration.new_home import Expected, NewHome, Writable
from graphdriver.care.migration.plan import Estimate, LayerKind, PlannedLayer, Refusal, Side, Way
from graphdriver.care.owners import OwnerKind
from graphdriver.care.tar_split import DiffersError, JoinedTar, UnknownContentError
from graphdriver.driver import Driver, mounted
from graphdriver.drivers.docker_homes import docker_home
from graphdriver.drivers.loading import load_installed
from graphdriver.errors import GraphDriverError, LayerDamagedError, UnsupportedError
from graphdriver.files.small_files import read_object

_BYTES_A_SECOND: Final = 40e6
_BYTES_A_SECOND_STORED: Final = 150e6
"""What was seen on an SSD; a disk may be slower. A tar that is stored is not unpacked."""
_SECONDS_A_LAYER: Final = 0.1
_STORES: Final = "erofs"


class Conversion:
    """Transfers layers to another driver.

    Args:
        source: the old side.
        target: the new side. Docker's own overlay2 is written by our driver of that name, which has
            the same layout.

    Raises:
        UnsupportedError: the new side is one of Docker's own drivers with another layout.
        GraphDriverError: the daemon remaps user and group ids, and nothing tells how.
    """

    way: Final = Way.CONVERT

    def __init__(self, source: Side, target: Side) -> None:
        if target.is_built_in and (own := dockers_own(target.driver)) and has_another_layout(own):
            raise UnsupportedError(
                f"layers of {source.name} cannot become layers of Docker's own {target.driver} in one"
                " step",
                hint=f"move to py-{target.driver} first, and from there to {target.name}",
            )
        self._source = source
        self._target = target
        self._maps = maps_of(source.data_root).covering()

    # --- the plan ---------------------------------------------------------------------------------

    def refused(self, layers: Sequence[PlannedLayer]) -> Iterator[Refusal]:
        """Yield the layers of images whose tars the daemon has no record of."""
        for layer in layers:
            if layer.kind is LayerKind.IMAGE and not os.path.isfile(self._record(layer)):
                yield Refusal(layer.id, f"the record of its tar is missing: {self._record(layer)}")

    def estimate(self, layers: Sequence[PlannedLayer]) -> Estimate:
        """Return what it costs: all layers are read, and written."""
        needed = [one for one in layers if one.kind is not LayerKind.UNRECORDED]
        own = {one.id: _size(one) for one in needed}
        written = sum(own.values())
        copies = ability(load_installed(self._target.driver), TellsUntouched)
        if copies:  # on some filesystems each layer is a full copy
            whole: dict[str, int] = {}
            for one in needed:
                whole[one.id] = own[one.id] + whole.get(one.parent, 0)
            written = sum(whole.values())
        rate = _BYTES_A_SECOND_STORED if self._target.driver == _STORES else _BYTES_A_SECOND
        seconds = written / rate + len(needed) * _SECONDS_A_LAYER
        return Estimate("read as tars and applied again", seconds, written)

    def _record(self, layer: PlannedLayer) -> str:
        """Return the path of the daemon's record of an image layer's tar."""
        assert layer.known
        digest = layer.known.chain_id.replace(":", "/")
        return os.path.join(self._source.records, "layerdb", digest, "tar-split.json.gz")

    # --- the work ---------------------------------------------------------------------------------

    def transfer(
        self,
        source: str,
        target: str,
        layers: Sequence[PlannedLayer],
        done: Callable[[PlannedLayer], None],
    ) -> None:
        """Transfer layers; see `graphdriver.care.migration.plan.Transfer`."""
        parents = {one.parent for one in layers}
        with self._reading(source) as old, self._writing(target) as new:
            # Another layer may have changed since it was transferred, if a daemon ran meanwhile.
            new.keep_only({one.id for one in layers if one.kind is LayerKind.IMAGE})
            for layer in layers:
                if layer.kind is not LayerKind.UNRECORDED and layer.id not in new:
                    writable = None
                    if layer.kind is LayerKind.CONTAINER and layer.id not in parents:
                        writable = created_as(self._source.data_root, layer)
                    with self._explaining(layer, source):
                        self._convert(layer, old, new, writable)
                done(layer)

    def _convert(
        self, layer: PlannedLayer, old: Driver, new: NewHome, writable: Writable | None
    ) -> None:
        if layer.kind is LayerKind.IMAGE:
            assert layer.known
            with (
                mounted(old, layer.id) as tree,
                contextlib.closing(JoinedTar(self._record(layer), tree)) as tar,
            ):
                new.add(layer.id, layer.parent, tar, Expected(diff_id=layer.known.diff_id))
            return
        size = old.diff_size(layer.id, layer.parent)
        with contextlib.closing(old.diff(layer.id, layer.parent)) as stream:
            expected = Expected(size=size, shown=lambda: mounted(old, layer.id))
            new.add(layer.id, layer.parent, stream, expected, writable)

    @contextlib.contextmanager
    def _explaining(self, layer: PlannedLayer, source: str) -> Iterator[None]:
        """Let an error in a ``with`` block name the layer and its home."""
        try:
            yield
        except (DiffersError, UnknownContentError) as error:
            raise LayerDamagedError.of(layer.id, str(error), source) from error
        except GraphDriverError as error:
            raise error.about("migrate", layer.id) from error.__cause__

    @contextlib.contextmanager
    def _reading(self, home: str) -> Iterator[Driver]:
        """Yield a driver that reads the old home."""
        if self._source.is_built_in:
            driver = docker_home(self._source.driver, home)
            driver.init(home, (), self._maps.uids, self._maps.gids)
            yield driver
        else:
            with served_home(self._source.driver, home, self._maps, make=False) as served:
                yield driver_in(served)

    @contextlib.contextmanager
    def _writing(self, home: str) -> Iterator[NewHome]:
        """Yield the new home."""
        with served_home(self._target.driver, home, self._maps, make=True) as served:
            yield NewHome(served)


def _size(layer: PlannedLayer) -> int:
    known = layer.known.size if layer.known else None
    return (layer.size if known is None else known) or 0


def created_as(data_root: str, layer: PlannedLayer) -> Writable:
    """Return how the daemon created a container's layer.

    Raises:
        GraphDriverError: its records are damaged.
    """
    owners = layer.known.owners if layer.known else ()
    container = next((one.id for one in owners if one.kind is OwnerKind.CONTAINER), "")
    if not container:  # the layer of a step of a build
        return Writable()
    directory = os.path.join(data_root, "containers", container)
    try:
        label = read_object(os.path.join(directory, "config.v2.json")).get("MountLabel") or ""
        options = read_object(os.path.join(directory, "hostconfig.json")).get("StorageOpt") or {}
    except (OSError, ValueError) as error:
        raise GraphDriverError(f"{directory} cannot be read: {error}") from error
    if not isinstance(label, str) or not isinstance(options, dict):
        raise GraphDriverError(f"{directory} is damaged: it has no right MountLabel or StorageOpt")
    return Writable(label, {str(key): str(value) for key, value in options.items()})
