"""A daemon with ``userns-remap``: root in its containers is somebody else on the host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphdriver.docker.client import Client
from graphdriver.driver import mounted
from tests.e2e import homes
from tests.e2e.engines import Engines
from tests.e2e.subids import COUNT, FIRST, USER, subordinate_ids
from tests.support.daemon import Daemon
from tests.support.images import LayerTar, SavedImage, chain_id, digest, image_archive, read_saved
from tests.support.plugin_process import Plugin

NOBODY = 0xFFFFFFFF

CAPABILITY = bytes.fromhex("0100000202000000000000000000000000000000")
"""``cap_dac_override=ep`` in a tar: version 2 names nobody (capability.h, VFS_CAP_REVISION_2)."""

CAPABILITY_ON_DISK = bytes.fromhex("0100000302000000000000000000000000000000a0860100")
"""The same as the host's kernel keeps it: version 3 names the host's id of the container's root."""

ACL = struct.pack(
    "<I" + "HHI" * 5,
    2,
    *(1, 6, NOBODY),
    *(2, 4, 7),
    *(4, 4, NOBODY),
    *(16, 4, NOBODY),
    *(32, 4, NOBODY),
)
"""``user::rw-,user:7:r--,group::r--,mask::r--,other::r--`` (linux/posix_acl_xattr.h)."""

ROOM = ("./usr/share/", "./var/lib/apt/", "./var/cache/")
"""Parts of a Debian that nothing here needs."""

CHANGE = r"""
set -e
chown 11:12 /made/plain
chmod 2711 /made/folder
chown -h 13:14 /made/link
cp /usr/bin/perl /made/as-1234
chown 1234:4321 /made/as-1234
chmod 6755 /made/as-1234
cp /usr/bin/cat /made/able
setcap cap_dac_override=ep /made/able
mkfifo /made/new-fifo
rm /made/fifo
mkdir /made/new && chown 65534:65534 /made/new
setfattr -n user.note -v ours /made/new
rm -r /etc/apt
"""

SHOW = r"""
set -e
cd /made
stat --format '%n %a %u:%g %F' plain folder link as-1234 secret new new-fifo null
getcap able busybox
./able secret
./busybox cat secret
cat secret 2>&1 || true
./as-1234 -e 'print "as $> ", $) + 0, "\n"'
test ! -e /etc/apt
"""

SHOWN = """\
plain 644 11:12 regular file
folder 2711 1:2 directory
link 777 13:14 symbolic link
as-1234 6755 1234:4321 regular file
secret 600 0:0 regular file
new 755 65534:65534 directory
new-fifo 644 0:0 fifo
null 666 0:0 character special file
able cap_dac_override=ep
busybox cap_dac_override=ep
secret
secret
cat: secret: Permission denied
as 1234 4321
"""


@dataclass(frozen=True)
class Image:
    """A Debian without what only takes room, and a layer with what remapping could break.

    Attributes:
        archive: what ``docker load`` takes.
        id: the image's ID.
        layers: the tars of its two layers.
    """

    archive: Path
    id: str
    layers: tuple[Path, Path]

    @property
    def diff_ids(self) -> list[str]:
        return [digest(layer.read_bytes()) for layer in self.layers]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, busybox: bytes, debian_tar: Path) -> Image:
    """An image called ``image``."""
    tar = LayerTar().folder("made").folder("made/folder", owner=(1, 2))
    tar.add("made/plain", data=b"plain\n", owner=(3, 4)).symlink("made/link", "plain")
    tar.hard_link("made/plain-too", "made/plain")
    tar.add("made/secret", data=b"secret\n", mode=0o600)
    tar.add("made/set-id", data=b"#!", mode=0o6755, owner=(COUNT - 1, COUNT - 1))
    capable = {"security.capability": CAPABILITY}
    tar.add("made/busybox", data=busybox, mode=0o755, xattrs=capable)
    tar.add("made/listed", mode=0o644, xattrs={"system.posix_acl_access": ACL})
    tar.add("made/fifo", type=tarfile.FIFOTYPE, owner=(5, 6))
    tar.add("made/null", type=tarfile.CHRTYPE, device=(1, 3), mode=0o666)
    folder = tmp_path_factory.mktemp("image")
    layers = folder / "lower.tar", folder / "upper.tar"
    keep_what_runs(debian_tar, layers[0])
    layers[1].write_bytes(tar.done())
    archive = folder / "image.tar"
    return Image(
        archive, image_archive(archive, "image", [it.read_bytes() for it in layers]), layers
    )


def keep_what_runs(debian: Path, target: Path) -> None:
    with tarfile.open(debian) as whole, tarfile.open(target, "w") as kept:
        for entry in whole:
            if not entry.name.startswith(ROOM):
                kept.addfile(entry, whole.extractfile(entry) if entry.isreg() else None)


@pytest.fixture(scope="module")
def remapped(engines: Engines, driver: str, image: Image) -> Iterator[tuple[Daemon, Plugin]]:
    """A daemon with remapped ids that has the image, and its plugin."""
    with (
        subordinate_ids(),
        engines.on_plugin(driver, config={"userns-remap": USER}) as (daemon, plugin),
    ):
        daemon.docker("load", "--input", str(image.archive))
        yield daemon, plugin


def layer_ids(daemon: Daemon, diff_ids: list[str]) -> list[str]:
    """Return what the plugin calls the layers of a chain."""
    records = daemon.root / "image" / daemon.storage_driver / "layerdb"
    chains = [chain_id(diff_ids[: n + 1]).replace(":", "/") for n in range(len(diff_ids))]
    return [(records / chain / "cache-id").read_text() for chain in chains]


def diffs(plugin: Plugin, layers: list[str]) -> list[str]:
    """Return the digests of what the plugin says that each layer of a chain changed."""
    found = []
    with Client(str(plugin.socket)) as client:
        for layer, parent in zip(layers, ["", *layers], strict=False):
            sha256 = hashlib.sha256()
            with contextlib.closing(client.diff(layer, parent)) as stream:
                while piece := stream.read(1 << 20):
                    sha256.update(piece)
            found.append(sha256.hexdigest())
    return found


def change_and_commit(daemon: Daemon, folder: Path) -> SavedImage:
    """Run `CHANGE` in a container, commit it as ``changed``, and save that."""
    run = ["run", "--name=changing", "--network=none", "image", "sh", "-c", CHANGE]
    daemon.docker(*run)
    daemon.docker("commit", "changing", "changed")
    daemon.docker("rm", "changing")
    daemon.docker_to_file(folder / "changed.tar", "save", "changed")
    return read_saved(folder / "changed.tar")


def shown(daemon: Daemon) -> str:
    options = ["--user=1000:1000"]
    return daemon.run("changed", "sh", "-c", SHOW, options=options)


@pytest.mark.reaches("Get", "Put", "Diff")
def test_owners_are_shifted_on_disk_and_nowhere_else(
    remapped: tuple[Daemon, Plugin], ours: Daemon, plugin: Plugin, image: Image
) -> None:
    daemon, remapped_plugin = remapped
    home = homes.home_of(daemon)
    assert home == daemon.data_root / f"{FIRST}.{FIRST}" / remapped_plugin.name
    assert (home.stat().st_mode & 0o777, home.stat().st_gid) == (0o710, FIRST)
    ids = f"0 {FIRST} {COUNT}".split()
    assert daemon.run("image", "cat", "/proc/self/uid_map").split() == ids

    layers = layer_ids(daemon, image.diff_ids)
    with Client(str(remapped_plugin.socket)) as client, mounted(client, layers[-1]) as root:
        for layer in image.layers:
            with tarfile.open(layer) as tar:
                for entry in tar:
                    if entry.islnk():  # it is what it links to
                        continue
                    found = os.lstat(f"{root}/{entry.name}")
                    assert found.st_uid == entry.uid + FIRST, entry.name
                    assert found.st_gid == entry.gid + FIRST, entry.name
                    if not entry.issym():
                        assert stat.S_IMODE(found.st_mode) == entry.mode, entry.name
        on_disk = os.getxattr(f"{root}/made/busybox", "security.capability")
        assert on_disk == CAPABILITY_ON_DISK
        on_disk = os.getxattr(f"{root}/made/listed", "system.posix_acl_access")
        assert on_disk == ACL.replace(struct.pack("<I", 7), struct.pack("<I", 7 + FIRST))

    ours.docker("load", "--input", str(image.archive))
    assert diffs(remapped_plugin, layers) == diffs(plugin, layer_ids(ours, image.diff_ids))


@pytest.mark.reaches("CreateReadWrite", "Get", "Put", "Diff", "ApplyDiff")
def test_what_is_changed_and_committed_is_the_same_as_without_remapping(
    remapped: tuple[Daemon, Plugin], ours: Daemon, image: Image, tmp_path: Path
) -> None:
    daemon, remapped_plugin = remapped
    # The maps were said once, to an earlier process.
    remapped_plugin.kill()
    remapped_plugin.start()
    saved = change_and_commit(daemon, tmp_path)
    assert saved.found_diff_ids == saved.diff_ids
    assert saved.diff_ids[:-1] == image.diff_ids
    assert shown(daemon) == SHOWN

    ours.docker("load", "--input", str(tmp_path / "changed.tar"))
    assert ours.docker("images", "--no-trunc", "--quiet", "changed") == f"{saved.id}\n"
    assert shown(ours) == SHOWN
    ours.docker_to_file(tmp_path / "again.tar", "save", "changed")
    assert read_saved(tmp_path / "again.tar") == saved

    ours.docker("load", "--input", str(image.archive))
    unmapped = change_and_commit(ours, tmp_path)
    assert without_times(unmapped.contents[-1]) == without_times(saved.contents[-1])


def without_times(lines: list[str]) -> list[str]:
    return [re.sub(r"mtime=\S+", "", line) for line in lines]


@pytest.mark.reaches("Create", "ApplyDiff", "Get")
def test_a_root_that_no_tar_names_belongs_to_the_root_of_containers(
    remapped: tuple[Daemon, Plugin], small: Path
) -> None:
    daemon, _ = remapped
    daemon.docker("load", "--input", str(small))
    assert daemon.run("small", "sh", "-c", "echo made > /made && cat /made") == "made\n"


@pytest.mark.reaches("Create", "ApplyDiff", "Remove", failing=("ApplyDiff",))
def test_an_owner_outside_the_range_is_refused_in_words(
    remapped: tuple[Daemon, Plugin], tmp_path: Path
) -> None:
    daemon, _ = remapped
    before = homes.layers(daemon)
    tar = LayerTar().add("mine", owner=(COUNT, 0))
    image_archive(tmp_path / "outside.tar", "outside", [tar.done()])
    done = daemon.try_docker("load", "--input", str(tmp_path / "outside.tar"))
    said = done.stderr.decode()
    assert f"'mine': id {COUNT} is outside the daemon's id maps" in said
    assert "give its user a larger range of ids" in said
    assert homes.layers(daemon) == before
