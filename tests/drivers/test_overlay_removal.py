"""Removal of a layer's directory while the daemon waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.drivers.overlay.removal import remove_small_layer
from graphdriver.files.directories import opened


def make_layer(path: Path) -> Path:
    """Make what Create and a mount make."""
    for name in ("diff", "work/work"):
        (path / name).mkdir(parents=True)
    (path / "link").write_text("X" * 26)
    (path / "lower").write_text("l/" + "Y" * 26)
    return path


def as_mounted(layer: Path) -> None:
    pass


def never_mounted(layer: Path) -> None:
    (layer / "work/work").rmdir()


def first_in_its_chain(layer: Path) -> None:
    never_mounted(layer)
    (layer / "work").rmdir()
    (layer / "lower").unlink()


def written(layer: Path) -> None:
    (layer / "diff/etc").mkdir()
    (layer / "diff/etc/hosts").write_text("x")


def with_files_of_later_versions(layer: Path) -> None:
    (layer / "committed").touch()
    (layer / "more").mkdir()


@pytest.mark.parametrize(
    "shape", [as_mounted, never_mounted, first_in_its_chain, written, with_files_of_later_versions]
)
def test_a_small_layer_is_removed(tmp_path: Path, shape: Callable[[Path], None]) -> None:
    shape(make_layer(tmp_path / "layer"))
    with opened(str(tmp_path)) as fd:
        assert remove_small_layer(fd, b"layer")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["work", "diff", "link", "lower"])
def test_no_link_is_followed(tmp_path: Path, name: str) -> None:
    outside = make_layer(tmp_path / "outside")
    layer = make_layer(tmp_path / "layer")
    (layer / name).rename(tmp_path / "former")
    (layer / name).symlink_to(outside / name)
    with opened(str(tmp_path)) as fd:
        assert remove_small_layer(fd, b"layer")
    assert sorted(os.listdir(outside)) == ["diff", "link", "lower", "work"]
    assert (outside / "work/work").is_dir()
    assert not layer.exists()
