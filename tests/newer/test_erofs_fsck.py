"""erofs-utils find nothing wrong with our images (those of Debian 12 refuse blocks of 512 bytes)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from graphdriver.layer.erofs.index import Place
from tests.support.erofs_images import write_image
from tests.support.erofs_layers import Layer, every_kind, layers
from tests.support.ground import engine
from tests.support.long import times

pytestmark = pytest.mark.root

BOTH_PLACES = pytest.mark.parametrize("place", Place)


def fsck(directory: Path, place: Place) -> tuple[int, str]:
    """Check the image in a directory, and read all its data; return status and output."""
    device = [f"--device={directory / 'tar'}"] if place is Place.OWN_FILE else []
    words = [*engine("fsck.erofs"), "--extract", *device, str(directory / "image")]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check(layer: Layer, place: Place, directory: Path) -> None:
    write_image(layer, place, directory)
    status, output = fsck(directory, place)
    assert (status, [line for line in output.splitlines() if "<I>" not in line]) == (0, [])


@BOTH_PLACES
@settings(max_examples=times(gate=25, long=1000))
@given(layers())
def test_images_are_sound(place: Place, layer: Layer) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        check(layer, place, Path(directory))


@BOTH_PLACES
def test_an_image_of_every_kind_is_sound(place: Place, folder: Path) -> None:
    check(every_kind(), place, folder)


def test_a_damaged_directory_is_noticed(folder: Path) -> None:
    write_image(every_kind(), Place.BEHIND_TAR, folder)
    image = folder / "image"
    image.write_bytes(image.read_bytes().replace(b"...attributesblock", b"...attributes/lock"))
    status, output = fsck(folder, Place.BEHIND_TAR)
    assert (status, "<E>" in output) == (1, True)
