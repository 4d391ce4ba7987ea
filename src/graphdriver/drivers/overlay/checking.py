"""The check of a home of the overlay family, and its repair (`graphdriver.homes.ChecksHome`).

The name of a layer's link is in three places: the layer's file ``link``, the link itself, and the lists
``lower`` of the layers above. So if one of them is lost, it is made again from another.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from graphdriver.drivers.layer_checks import check_owner, check_stranger, has_none_of, mend_owner
from graphdriver.drivers.overlay.layout import (
    DIFF,
    LINK,
    LINKS,
    LOST_WORK,
    LOWER,
    MERGED,
    WORK,
    Layout,
)
from graphdriver.drivers.overlay.mounts import is_mounted
from graphdriver.drivers.overlay.reference_counts import ReferenceCounts, kept_counts
from graphdriver.drivers.store_checks import CODES, StoreChecks
from graphdriver.errors import LayerDamagedError
from graphdriver.homes import UNKNOWN_PARENT, Damage
from graphdriver.store import layers_in

DANGLING_LINK: Final = "dangling-link"
LOST_LINK: Final = "lost-link"
LOST_LINK_NAME: Final = "lost-link-name"
LOST_PARENT: Final = "lost-parent"
UNCOMMITTED: Final = "uncommitted"
WRONG_COUNT: Final = "wrong-count"

_STORE: Final = StoreChecks((LINKS,))


class OverlayChecks:
    """The checks of one home.

    Args:
        layout: the home's files.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.home = layout.home
        self.names: dict[str, str] = {}
        """The layer of each link, by the layers' own files."""
        self.mends: dict[str, Callable[[Damage], None]] = {
            DANGLING_LINK: lambda damage: os.unlink(damage.path),
            LOST_LINK: self._mend_link,
            LOST_LINK_NAME: self._mend_link_name,
            UNKNOWN_PARENT: self._mend_lowers,
            LOST_WORK: self._mend_work,
            UNCOMMITTED: self._mend_uncommitted,
            WRONG_COUNT: self._mend_count,
        }

    @functools.cached_property
    def layers(self) -> set[str]:
        """All layers."""
        return set(layers_in(self.home, (LINKS,)))

    @functools.cached_property
    def links(self) -> Mapping[str, tuple[str, str] | None]:
        """The links, with the layer and the directory that each names."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = [f"{LINKS}/{name}" for name in os.listdir(self.layout.path(LINKS))]
            return {name: self.layout.target_of(name) for name in names}
        return {}

    # --- what is wrong ----------------------------------------------------------------------------

    def check(self) -> Iterator[Damage]:
        """Yield what is wrong in the home."""
        yield from _STORE.check_home(self.home)
        unnamed = []
        for id in sorted(self.layers):
            try:
                self.names[self.layout.link_of(id)] = id
            except LayerDamagedError as error:
                unnamed.append((id, error.problem.partition(": ")[2]))
        files = (DIFF, LINK, LOWER, WORK, *self.layout.more_files)
        strangers = {id for id in self.layers if has_none_of(self.home, id, files)}
        for id in sorted(strangers):
            yield from check_stranger(self.home, id)
        for id, text in unnamed:
            if id not in strangers:
                path = self.layout.path(id, LINK)
                yield Damage(LOST_LINK_NAME, id, text, "write it again", path=path)
        parents = set()
        for id in sorted(self.layers - strangers):
            yield from check_owner(self.home, id)
            yield from self._check_layer(id)
            with contextlib.suppress(LayerDamagedError, OSError):
                parents.add(self.layout.parent_named(id))
        for id in sorted(parents & self.layers):
            if not self.layout.is_committed(id):
                text = "it has a child, and is not marked as a parent, so it could be written to"
                yield Damage(UNCOMMITTED, id, text, "mark it as a parent")
        yield from self._check_links()
        yield from self._check_counts()

    def _check_layer(self, id: str) -> Iterator[Damage]:
        for damage in self.layout.lost_parts(id):
            if damage.code == UNKNOWN_PARENT and self._list_above(id) is not None:
                repair = "write it again, from that of a layer on it"
                yield Damage(UNKNOWN_PARENT, id, damage.text, repair, path=damage.path)
            else:
                yield damage
        with contextlib.suppress(LayerDamagedError):
            for link in self.layout.lowers(id):
                if wrong := self._why_lost(link):
                    yield Damage(LOST_PARENT, id, wrong, loses=True, path=self.layout.path(link))
                    break

    def _why_lost(self, link: str) -> str:
        """Return why a link in a list leads to no layer; ``""`` if it does, or can be made again."""
        if self.layout.own_link(link) in self.names:
            return ""
        path = self.layout.path(link)
        if found := self.links.get(link):
            layer = found[0]
            return "" if layer in self.layers else f"layer {layer} below it was lost: it is gone"
        return f"a layer below it was lost: {path} leads to no layer"

    def _check_links(self) -> Iterator[Damage]:
        needed = {link for id in self.layers for link in self._lowers(id)}
        for link, id in self.names.items():
            for name, part in self.layout.links_of(id, link):
                if self.links.get(name) != (id, part):
                    path = self.layout.path(name)
                    text = f"{path} does not lead to its directory {part}"
                    yield Damage(LOST_LINK, id, text, "make the link again", path=path)
        for link, found in sorted(self.links.items()):
            is_named = self.layout.own_link(link) in self.names
            if is_named or link in needed or (found and found[0] in self.layers):
                continue
            path = self.layout.path(link)
            if os.path.islink(path):
                text = f"the link {path} leads to no layer"
                yield Damage(DANGLING_LINK, "", text, "remove the link", path=path)

    def _check_counts(self) -> Iterator[Damage]:
        for id, count in sorted(kept_counts(self.home).items()):
            if not self._is_mounted(id):
                text = "it has a reference count, and is not mounted"
                yield Damage(WRONG_COUNT, id, text, "remove the count")
            elif count is None:
                text = "it is mounted, and its reference count is damaged"
                yield Damage(WRONG_COUNT, id, text, "count one Get")

    def _is_mounted(self, id: str) -> bool:
        layer = self.layout.path(id)
        return any(is_mounted(f"{layer}/{name}", layer) for name in (MERGED, WORK))

    def _lowers(self, id: str) -> Sequence[str]:
        with contextlib.suppress(LayerDamagedError, OSError):
            return self.layout.lowers(id)
        return ()

    # --- repairs ----------------------------------------------------------------------------------

    def mend(self, damage: Damage) -> None:
        """Repair one damage.

        Raises:
            LayerDamagedError: what it would be repaired from is damaged, too.
            OSError: it cannot be repaired.
        """
        if damage.code in CODES:
            _STORE.mend_home(self.home, damage)
        elif damage.code in self.mends:
            self.mends[damage.code](damage)
        else:
            mend_owner(damage)

    def restore_parent(self, id: str, parent: str) -> None:
        """Write a layer's list again, given its parent; see `graphdriver.homes.RestoresParent`."""
        self.layout.write_lowers(id, self.layout.links_above(parent))

    def _mend_link(self, damage: Damage) -> None:
        self.layout.make()
        link = self.layout.link_of(damage.layer)
        for name, part in self.layout.links_of(damage.layer, link):
            if self.layout.target_of(name) != (damage.layer, part):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.layout.path(name))
                self.layout.make_link(damage.layer, name, part)

    def _mend_link_name(self, damage: Damage) -> None:
        """Write the name of the link that leads to the layer; make a new one if it has none."""
        mine = (damage.layer, DIFF)
        link = next((name for name, found in self.links.items() if found == mine), None)
        self.layout.write_link(damage.layer, link or self.layout.new_link())
        self._mend_link(damage)

    def _list_above(self, id: str) -> list[str] | None:
        """Return the list of the layers below a layer as a layer on it has it; None if none has."""
        link = next((name for name, found in self.links.items() if found == (id, DIFF)), None)
        if link is None or self.layout.hides_layers_below(id):
            return None
        for other in self.layers - {id}:
            lowers = [self.layout.own_link(name) for name in self._lowers(other)]
            if link in lowers:
                # Its own links are one behind the other; the rest is its list.
                behind = len(lowers) - lowers[::-1].index(link)
                return list(self._lowers(other))[behind:]
        return None

    def _mend_lowers(self, damage: Damage) -> None:
        found = self._list_above(damage.layer)
        if found is None:
            raise FileNotFoundError("no layer on it has the list any more")
        self.layout.write_lowers(damage.layer, found)

    def _mend_work(self, damage: Damage) -> None:
        if os.path.lexists(damage.path):
            raise FileExistsError(f"{damage.path} is in the way; move it away")
        owner = next(
            (
                found
                for id in self.layers
                if (found := _owner_of(self.layout.path(id, WORK))) is not None
            ),
            (os.geteuid(), os.stat(self.home).st_gid),
        )
        os.mkdir(damage.path, 0o700)
        os.chown(damage.path, *owner)

    def _mend_uncommitted(self, damage: Damage) -> None:
        self.layout.commit(damage.layer)

    def _mend_count(self, damage: Damage) -> None:
        ReferenceCounts(self.home).set(damage.layer, int(self._is_mounted(damage.layer)))


def _owner_of(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_uid, found.st_gid
    return None
