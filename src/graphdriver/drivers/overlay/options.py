"""What homes and layers of overlays can be told (``--storage-opt`` of the daemon, of a container)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graphdriver.drivers.overlay.mounts import SETTINGS
from graphdriver.drivers.sizes import size_of
from graphdriver.errors import UnsupportedError
from graphdriver.linux.project_quota import limit_tree

KNOWN = {
    "mountopt": "options of every mount, separated by commas: mountopt=nodev,noatime",
    "size": "how large a container's layer may grow, on a filesystem with project quotas: size=10G",
    "volatile": "true: containers' layers are never synced, and lost when the machine goes down",
}
"""The options of a home. With the driver's name, ``overlay2.size=10G``, they are taken too."""

_OURS = frozenset(
    {"lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "userxattr", "verity", "ro"}
)
"""Options of a mount that say which layers are shown, and where marks are: the driver's own affair."""


@dataclass(frozen=True, slots=True)
class HomeOptions:
    """The options of a home; ``size`` in bytes, 0 for no limit."""

    mount_options: tuple[str, ...] = ()
    size: int = 0
    volatile: bool = False

    @classmethod
    def parse(cls, options: Sequence[str], driver: str, known: Collection[str]) -> HomeOptions:
        """Read ``key=value`` options, of which the last of a key counts.

        Args:
            options: as the daemon gives them.
            driver: its name.
            known: those of `KNOWN` that it has.

        Raises:
            UnsupportedError: one is not known, or its value is none.
        """
        found = {}
        for option in options:
            key, _, value = option.partition("=")
            key = key.removeprefix(f"{driver}.").lower()
            if key not in known:
                hint = "; ".join(f"{name}= ({KNOWN[name]})" for name in known)
                raise UnsupportedError(f"{driver} knows no option {option!r}", hint=hint)
            found[key] = value
        volatile = found.get("volatile", "false").lower()
        if volatile not in ("true", "false"):
            raise UnsupportedError(f"option volatile={volatile}: it is true or false")
        given = tuple(filter(None, found.get("mountopt", "").split(",")))
        for option in given:
            _refuse_ours(option)
        return cls(
            given,
            size_of(found["size"]) if "size" in found else 0,
            volatile == "true",
        )


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """The options of one layer; ``size`` in bytes, 0 for no limit."""

    size: int = 0

    @classmethod
    def parse(cls, options: Mapping[str, str], driver: str, size: int = 0) -> LayerOptions:
        """Read the options of a layer.

        Args:
            options: as Docker gives them.
            driver: its name.
            size: the limit of a layer that says none.

        Raises:
            UnsupportedError: one is not known, or its value is none.
        """
        for key in options:
            if key.lower() != "size":
                raise UnsupportedError(
                    f"{driver} knows no option {key!r} of a layer", hint="it knows size="
                )
        given = {key.lower(): value for key, value in options.items()}
        return cls(size_of(given["size"]) if "size" in given else size)

    def limit(self, folder: str, names: Sequence[str]) -> None:
        """Limit what these folders of a layer may hold together.

        Raises:
            UnsupportedError: the filesystem has no project quotas.
        """
        limit_tree([os.path.join(folder, name) for name in names], self.size)


def _refuse_ours(option: str) -> None:
    key, _, value = option.partition("=")
    fixed = dict(SETTINGS)
    if key in _OURS or value != fixed.get(key, value):
        told = f"it is {key}={fixed[key]}" if key in fixed else "the driver sets it itself"
        raise UnsupportedError(
            f"overlay2 mounts no layer with {option!r}: {told}",
            hint="what a layer changed is read in its folder, which must hold all of it",
        )
    if key == "volatile":
        raise UnsupportedError(
            "overlay2 mounts not every layer with 'volatile'",
            hint="the option volatile=true, without mountopt, does so for containers' layers",
        )
