"""fsck.erofs finds nothing wrong with our images (that of Debian 12 refuses blocks of 512 bytes).

It checks structures, and reads file data only to extract them. That of erofs-utils 1.8.6 does two
things wrong then: it leaves out a hole at the end of a file, and reads the blocks of a second device
from the image's own file. The kernel does both right (`tests.layer.erofs.test_index`).
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from graphdriver.layer.erofs.index import Place
from graphdriver.layer.erofs.tree import Inode
from tests.support.erofs_images import write_image
from tests.support.erofs_layers import Layer, every_kind, layers
from tests.support.ground import engine
from tests.support.long import times

pytestmark = pytest.mark.root

ALL_PLACES = pytest.mark.parametrize("place", Place)


def fsck(directory: Path, place: Place, *options: str) -> tuple[int, list[str]]:
    """Check the image in a directory; return the status, and what is said of faults."""
    device = [f"--device={directory / 'tar'}"] if place is not Place.BEHIND_TAR else []
    words = [*engine("fsck.erofs"), *options, *device, str(directory / "image")]
    done = subprocess.run(words, capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    return done.returncode, [line for line in said if "<I>" not in line]


@ALL_PLACES
@settings(max_examples=times(gate=25, long=1000))
@given(layers())
def test_images_are_sound(place: Place, layer: Layer) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        write_image(layer, place, Path(directory))
        assert fsck(Path(directory), place) == (0, [])


def test_an_image_of_every_kind_is_extracted(folder: Path) -> None:
    layer = every_kind()
    write_image(layer, Place.BEHIND_TAR, folder)
    assert fsck(folder, Place.BEHIND_TAR, f"--extract={folder / 'out'}") == (0, [])
    for path, one in layer.everything():
        found = folder / "out" / os.fsdecode(path[1:])
        if isinstance(one, Inode) and stat.S_ISREG(one.mode):
            assert found.read_bytes().ljust(one.size, b"\0") == layer.content(one)
        elif isinstance(one, Inode) and stat.S_ISLNK(one.mode):
            assert os.fsencode(found.readlink()) == one.data
        else:
            assert found.lstat().st_mode == one.mode


def test_a_damaged_directory_is_noticed(folder: Path) -> None:
    write_image(every_kind(), Place.BEHIND_TAR, folder)
    image = folder / "image"
    image.write_bytes(image.read_bytes().replace(b"...attributes", b"...attribute/"))
    status, said = fsck(folder, Place.BEHIND_TAR)
    assert (status, bool(said)) == (1, True)
