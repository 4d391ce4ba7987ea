"""The options of the overlay family (``--storage-opt`` of the daemon, or of one container)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphdriver.drivers.options import Option, parse_size, read_options, split_options
from graphdriver.drivers.overlay.mounter import SETTINGS
from graphdriver.errors import UnsupportedError

SIZE: Final = Option(
    "size=10G", "how large a container's layer may grow, on a filesystem with project quotas"
)
MOUNTOPT: Final = Option("mountopt=nodev,noatime", "options of every mount, separated by commas")
VOLATILE: Final = Option(
    "volatile=true", "containers' layers are never synced, and lost when the machine goes down"
)

XINO: Final = "xino=on"
"""One device number for all files of an overlay, and inode numbers that a copy-up does not change."""

_RESERVED: Final = frozenset(
    {"lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "userxattr", "verity", "ro"}
)
"""Mount options that only the driver sets: they select the layers and the form of their marks."""


@dataclass(frozen=True, slots=True)
class HomeOptions:
    """The options of a home.

    Attributes:
        mount_options: for every mount.
        size: the limit of a container's layer in bytes; 0 for no limit.
        volatile: whether containers' layers are mounted with ``volatile``.
    """

    mount_options: tuple[str, ...] = ()
    size: int = 0
    volatile: bool = False

    @classmethod
    def parse(cls, options: Sequence[str], known: Sequence[Option], driver: str) -> HomeOptions:
        """Read a home's options.

        Args:
            options: as the daemon sends them, ``key=value`` each.
            known: the options that the driver takes.
            driver: the driver's name.

        Raises:
            UnsupportedError: an option is unknown, or its value is wrong.
        """
        values = read_options(split_options(options), known, driver)
        volatile = values.get(VOLATILE.name, "false").lower()
        if volatile not in ("true", "false"):
            raise UnsupportedError(f"option volatile={volatile}: it must be true or false")
        mount_options = tuple(filter(None, values.get(MOUNTOPT.name, "").split(",")))
        for option in mount_options:
            _refuse_reserved(option, driver)
        size = values.get(SIZE.name)
        return cls(mount_options, parse_size(size) if size is not None else 0, volatile == "true")


def layer_size(options: Mapping[str, str], driver: str, default: int = 0) -> int:
    """Return the limit of one layer in bytes, 0 for no limit.

    Args:
        options: the layer's options, as the daemon sends them; ``size`` is the only one.
        driver: the driver's name.
        default: the limit if the options name none.

    Raises:
        UnsupportedError: an option is unknown, or its value is wrong.
    """
    size = read_options(options.items(), (SIZE,), driver).get(SIZE.name)
    return default if size is None else parse_size(size)


def _refuse_reserved(option: str, driver: str) -> None:
    """Refuse a mount option that would make mounts unsafe, or diffs wrong.

    Diffs are read in upper directories, without a mount, so all changes of a layer must be there.
    """
    key, _, value = option.partition("=")
    fixed = dict(SETTINGS)
    if key in _RESERVED or value != fixed.get(key, value):
        set_to = f"{key}={fixed[key]}" if key in fixed else "it"
        raise UnsupportedError(
            f"{driver}: {option!r} cannot be set in mountopt: the driver itself sets {set_to}",
            hint="leave it out",
        )
    if key == "volatile":
        raise UnsupportedError(
            f"{driver}: 'volatile' cannot be set in mountopt",
            hint="use the option volatile=true, which applies only to containers' layers",
        )
