"""The ways in which an administrator, a disk or a power cut damages a home, and what fsck must say."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

OVERLAYS: Final = ("overlay2", "erofs", "fuse-overlayfs")
TREES: Final = ("btrfs", "vfs")
EVERY: Final = (*OVERLAYS, *TREES)


@dataclass(frozen=True)
class Way:
    """A way to damage the layer ``mid`` of a home with ``base``, ``mid`` and ``top`` on each other.

    Attributes:
        code: the code of the damage that is found.
        drivers: those whose homes can be damaged so.
        damage: does it, given the home.
        layer: the layer that fsck names.
        repairs: whether a repair brings everything back.
        hits: the layers that cannot be used, unless it is repaired.
    """

    code: str
    drivers: Collection[str]
    damage: Callable[[Path], object]
    layer: str = "mid"
    repairs: bool = False
    hits: Collection[str] = ()


WAYS: Final[dict[str, Way]] = {}


def way(
    code: str,
    drivers: Collection[str],
    layer: str = "mid",
    repairs: bool = False,
    hits: Collection[str] = (),
) -> Callable[[Callable[[Path], object]], None]:
    def add(damage: Callable[[Path], object]) -> None:
        WAYS[damage.__name__] = Way(code, drivers, damage, layer, repairs, hits)

    return add


def cases() -> list[object]:
    """Return all pairs of a driver and a way; the checks of fuse-overlayfs are those of overlay2."""
    return [
        pytest.param(
            driver,
            one,
            id=f"{name}-{driver}",
            marks=[pytest.mark.long] if driver == "fuse-overlayfs" else [],
        )
        for name, one in WAYS.items()
        for driver in one.drivers
    ]


def remove(path: Path) -> None:
    """Remove anything; on btrfs a subvolume is a directory that cannot be removed like one."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    elif subprocess.run(["btrfs", "subvolume", "delete", path], capture_output=True).returncode:
        shutil.rmtree(path)


def link_of(home: Path, layer: str) -> Path:
    return home / "l" / (home / layer / "link").read_text()


# --- a layer's own content is lost ----------------------------------------------------------------


def tree_of(home: Path) -> Path:
    """Return the directory that holds the whole tree of ``mid``, or its changes."""
    return home / "mid" / ("root" if (home / "mid/root").exists() else "diff")


@way("lost-diff", OVERLAYS, hits=("mid",))
def the_diff_is_gone(home: Path) -> None:
    remove(home / "mid/diff")


@way("lost-diff", OVERLAYS, hits=("mid",))
def the_diff_is_a_file(home: Path) -> None:
    remove(home / "mid/diff")
    (home / "mid/diff").touch()


@way("lost-diff", OVERLAYS, hits=("mid",))
def the_diff_is_a_symlink(home: Path) -> None:
    os.rename(home / "mid/diff", home / ".elsewhere")
    (home / "mid/diff").symlink_to("../.elsewhere")


@way("lost-tree", ["vfs"], hits=("mid",))
def the_tree_is_gone(home: Path) -> None:
    remove(home / "mid/root")


@way("lost-tree", TREES, hits=("mid",))
def the_tree_is_a_file(home: Path) -> None:
    remove(home / "mid/root")
    (home / "mid/root").touch()


@way("lost-tree", TREES, hits=("mid",))
def the_tree_is_a_symlink(home: Path) -> None:
    os.rename(home / "mid/root", home / ".elsewhere")
    (home / "mid/root").symlink_to("../.elsewhere")


@way("plain-directory", ["btrfs"])
def the_tree_was_copied(home: Path) -> None:
    remove(home / "mid/root")
    shutil.copytree(home / "base/root", home / "mid/root", symlinks=True)
    (home / "mid/root/mid").write_text("mid")


@way("lost-record", ["erofs"], hits=("mid", "top"))
def the_record_is_gone(home: Path) -> None:
    (home / "mid/layer.json").unlink()


@way("lost-record", ["erofs"], hits=("mid", "top"))
def the_record_is_cut(home: Path) -> None:
    os.truncate(home / "mid/layer.json", 20)


@way("lost-image", ["erofs"], hits=("mid", "top"))
def the_image_is_gone(home: Path) -> None:
    (home / "mid/layer.erofs").unlink()


@way("lost-image", ["erofs"], hits=("mid", "top"))
def the_image_is_a_directory(home: Path) -> None:
    (home / "mid/layer.erofs").unlink()
    (home / "mid/layer.erofs").mkdir()


@way("damaged-image", ["erofs"], hits=("mid", "top"))
def the_image_is_empty(home: Path) -> None:
    os.truncate(home / "mid/layer.erofs", 0)


@way("damaged-image", ["erofs"])
def the_image_is_cut(home: Path) -> None:
    os.truncate(home / "mid/layer.erofs", (home / "mid/layer.erofs").stat().st_size - 512)


@way("damaged-image", ["erofs"])
def the_image_is_that_of_another_layer(home: Path) -> None:
    shutil.copyfile(home / "top/layer.erofs", home / "mid/layer.erofs")


@way("lost-mount-point", ["erofs"], repairs=True, hits=("mid", "top"))
def the_mount_point_is_a_file(home: Path) -> None:
    (home / "mid/applied").rmdir()
    (home / "mid/applied").touch()


# --- a layer is gone ------------------------------------------------------------------------------


@way("lost-parent", OVERLAYS, layer="top", hits=("top",))
def a_parent_is_gone(home: Path) -> None:
    if (home / "mid/applied").exists():
        subprocess.run(["umount", home / "mid/applied"], capture_output=True)
    shutil.rmtree(home / "mid")


@way("lost-parent", OVERLAYS, layer="top", hits=("top",))
def a_parent_and_its_link_are_gone(home: Path) -> None:
    for link in home.glob(f"{link_of(home, 'mid').relative_to(home)}*"):
        link.unlink()
    shutil.rmtree(home / "mid")


@way("no-layer", EVERY, hits=("mid",))
def a_layer_is_empty(home: Path) -> None:
    for one in (home / "mid").iterdir():
        remove(one)


# --- the links and lists of the overlay family ----------------------------------------------------


@way("dangling-link", OVERLAYS, layer="", repairs=True)
def a_link_leads_to_nothing(home: Path) -> None:
    (home / "l" / ("A" * 26)).symlink_to("../gone/diff")


@way("lost-link", OVERLAYS, repairs=True, hits=("top",))
def a_link_is_gone(home: Path) -> None:
    for link in home.glob(f"{link_of(home, 'mid').relative_to(home)}*"):
        link.unlink()


@way("lost-link", OVERLAYS, repairs=True)
def a_link_leads_to_another_layer(home: Path) -> None:
    link_of(home, "mid").unlink()
    link_of(home, "mid").symlink_to("../base/diff")


@way("lost-link-name", OVERLAYS, repairs=True)
def the_name_of_a_link_is_gone(home: Path) -> None:
    (home / "mid/link").unlink()


@way("lost-link-name", OVERLAYS, repairs=True)
def the_name_of_a_link_is_empty(home: Path) -> None:
    (home / "mid/link").write_text("")


@way("unknown-parent", OVERLAYS, repairs=True, hits=("mid",))
def a_list_of_layers_is_gone(home: Path) -> None:
    (home / "mid/lower").unlink()


@way("unknown-parent", OVERLAYS, repairs=True, hits=("mid",))
def a_list_of_layers_is_empty(home: Path) -> None:
    (home / "mid/lower").write_text("")


@way("unknown-parent", OVERLAYS, layer="top", hits=("top",))
def the_list_of_the_last_layer_is_gone(home: Path) -> None:
    (home / "top/lower").unlink()


@way("lost-work", OVERLAYS, repairs=True)
def the_work_directory_is_gone(home: Path) -> None:
    shutil.rmtree(home / "mid/work")


@way("uncommitted", OVERLAYS, repairs=True)
def the_mark_of_a_parent_is_gone(home: Path) -> None:
    (home / "mid/committed").unlink()


# --- the rest -------------------------------------------------------------------------------------


@way("foreign-owner", EVERY, repairs=True)
def a_layer_belongs_to_somebody_else(home: Path) -> None:
    os.chown(home / "mid", 1000, -1)


@way("foreign-link", EVERY)
def a_layer_is_a_symlink(home: Path) -> None:
    os.rename(home / "mid", home / ".moved")
    (home / "mid").symlink_to(".moved")
