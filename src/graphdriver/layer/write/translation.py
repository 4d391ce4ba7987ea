"""The translation of an entry's owners and attributes to those on disk.

Ids are mapped, and attributes that are not content (`graphdriver.layer.attributes`) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphdriver.driver import IDMap
from graphdriver.layer.attributes import not_content, on_disk
from graphdriver.layer.idmap import to_host
from graphdriver.layer.tar.entry import Entry, show
from graphdriver.layer.write.refusals import Losses

_NO_ID = 0xFFFFFFFF
"""-1, with which chown(2) changes nothing."""

_NOBODY = 65534
"""The owner of files whose owner Linux has no number for (DEFAULT_OVERFLOWUID, linux/highuid.h)."""


class Translation:
    """The translation of the entries of one layer.

    Args:
        uid_maps: user ids in the tar to those on disk; empty means "the same".
        gid_maps: likewise for groups.
        losses: warns of what is left out.
    """

    def __init__(
        self, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap], losses: Losses
    ) -> None:
        self._uid_maps = uid_maps
        self._gid_maps = gid_maps
        self._losses = losses

    def translate(self, entry: Entry) -> None:
        """Map owners and attributes to those on disk; leave out attributes that are not content.

        Raises:
            GraphDriverError: an id is outside the maps.
        """
        if self._uid_maps:
            entry.uid = to_host(self._uid_maps, entry.uid)
        elif not 0 <= entry.uid < _NO_ID:
            entry.uid = self._nobody(entry, "user", entry.uid)
        if self._gid_maps:
            entry.gid = to_host(self._gid_maps, entry.gid)
        elif not 0 <= entry.gid < _NO_ID:
            entry.gid = self._nobody(entry, "group", entry.gid)
        if entry.damaged_xattr is not None:
            self._losses.note(
                "damaged attributes",
                f"{show(entry.name)}: the attribute {show(entry.damaged_xattr)} is damaged: left out",
            )
        if entry.xattrs:
            for name, why in not_content(entry.xattrs):
                self._losses.note(
                    why.name,
                    f"{show(entry.name)}: the attribute {show(name)} {why.value}: left out",
                )
            entry.xattrs = on_disk(entry.xattrs, self._uid_maps, self._gid_maps)

    def _nobody(self, entry: Entry, kind: str, id: int) -> int:
        """Return the owner for an entry whose owner Linux cannot have; chown(2) would truncate it."""
        self._losses.note(
            "owners",
            f"{show(entry.name)}: Linux cannot have the {kind} {id}: it belongs to {_NOBODY}",
        )
        return _NOBODY
