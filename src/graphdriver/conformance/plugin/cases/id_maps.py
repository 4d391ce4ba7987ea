"""ID maps, as a daemon with --userns-remap sends them with Init."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import NotOffered, either_way, expect, rejected
from graphdriver.conformance.kit.tree import CAPABILITY
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.diffs import entries
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.driver import Driver, IDMap, mounted

GROUP: Group[Kit] = Group("id-maps", "ID maps, as a daemon with --userns-remap sends them")

_ROOT: Final = 100_000
_MAPS: Final = (IDMap(0, _ROOT, 1000), IDMap(1000, 500_000, 1000))
_STRANGER: Final = 1_777_777
"""An owner outside the maps; of so many digits that no layer's ID holds it by chance."""
_ON_DISK: Final = {0: 100_000, 999: 100_999, 1000: 500_000, 1999: 500_999}


@contextlib.contextmanager
def _mapped(kit: Kit) -> Iterator[Driver]:
    """Give a plugin after an Init with maps; one that rejects maps is right, and not tested further."""
    with contextlib.ExitStack() as held:
        with either_way() as rejection:
            driver = held.enter_context(kit.subject.another(maps=_MAPS))
        if rejection.was:
            raise NotOffered(f"the plugin refuses ID maps: {rejection.text}")
        yield driver


@GROUP.case(Need.HOMES, see=references.ID_MAPS)
def owners_are_mapped_both_ways(kit: Kit) -> None:
    """Owners in a tar are the container's; they are mapped on disk, and mapped back in a Diff.

    With --userns-remap a container's root is user 100000 on disk, and user 0 in the image. An owner
    that is mapped in one direction only belongs to nobody.
    """
    data = tars.tar(
        *(tars.file(b"%d" % id, uid=id, gid=1999 - id) for id in _ON_DISK),
        tars.directory(b"directory", uid=1, gid=1),
        tars.symlink(b"link", b"0", uid=1, gid=1),
    )
    expected = {b"%d" % id: (_ON_DISK[id], _ON_DISK[1999 - id]) for id in _ON_DISK}
    expected |= dict.fromkeys((b"directory", b"link"), (_ROOT + 1, _ROOT + 1))
    inside = {str(id): (id, 1999 - id) for id in _ON_DISK} | {"directory": (1, 1), "link": (1, 1)}
    with _mapped(kit) as driver:
        layer = kit.applied(data, driver=driver)
        child = kit.layer(layer, driver=driver)
        for what, one in (("the layer", layer), ("its child", child)):
            found = kit.record(one, driver)
            owners = {name: (facts.uid, facts.gid) for name, facts in found.items()}
            expect(f"owners on disk in {what}", owners, expected)
            diff = entries(kit.diff(one, driver=driver))
            owners_inside = {name: (entry.uid, entry.gid) for name, entry in diff.items()}
            expect(f"owners in the Diff of {what}", owners_inside, inside)


@GROUP.case(Need.HOMES, see=references.ID_MAPS)
def new_layers_belong_to_the_containers_root(kit: Kit) -> None:
    """New layers, and directories without an entry, belong to the container's root.

    A root directory of the host's root cannot be changed by the container's root: the container
    cannot create a file in /.
    """
    with _mapped(kit) as driver:
        layer = kit.layer(driver=driver)
        with kit.shown(layer, driver) as root:
            found = os.stat(root)
            expect("owner of a new layer's directory", (found.st_uid, found.st_gid), (_ROOT, _ROOT))
        layer = kit.applied(tars.tar(tars.file(b"made/file")), driver=driver)
        made = kit.record(layer, driver)[b"made"]
        expect("owner of a directory that was missing", (made.uid, made.gid), (_ROOT, _ROOT))


@GROUP.case(Need.HOMES, see=references.ID_MAPS, required=False)
def containers_root_can_reach_its_layer(kit: Kit) -> None:
    """The container's root may pass through the directory that holds Dir.

    The container's root is an ordinary user on the host. A home that is closed to it makes every
    start of a container fail.
    """
    with _mapped(kit) as driver:
        layer = kit.layer(driver=driver)
        with mounted(driver, layer) as named, kit.opened(named, is_read=True):
            found = os.stat(os.path.dirname(named))
            mode = found.st_mode
            passes = (
                mode & stat.S_IXOTH
                or (mode & stat.S_IXGRP and found.st_gid == _ROOT)
                or (mode & stat.S_IXUSR and found.st_uid == _ROOT)
            )
            expect(f"whether user {_ROOT} can pass the directory of Dir", bool(passes), True)


@GROUP.case(Need.HOMES, see=references.ID_MAPS)
def written_by_a_container(kit: Kit) -> None:
    """What a container's users wrote on disk belongs to them in the Diff, whiteouts included.

    docker commit of a remapped container must give an image that works without the map. Whiteouts
    are part of it.
    """
    with _mapped(kit) as driver:
        base = kit.applied(tars.tar(tars.file(b"gone"), tars.file(b"kept", uid=5)), driver=driver)

        def write(root: Path) -> None:
            (root / "new").touch()
            os.chown(root / "new", 500_000, 100_007)
            (root / "gone").unlink()

        layer = kit.layer(base, write, driver)
        diff = entries(kit.diff(layer, base, driver))
        expect("names in the Diff", sorted(diff), [".wh.gone", "new"])
        expect("owner of a written file", (diff["new"].uid, diff["new"].gid), (1000, 7))
        expect("owner of a whiteout", (diff[".wh.gone"].uid, diff[".wh.gone"].gid), (0, 0))


@GROUP.case(Need.HOMES, see=references.UNMAPPED)
def unmapped_owner_is_rejected(kit: Kit) -> None:
    """ApplyDiff of a file whose owner no map contains is rejected.

    An owner that no map contains cannot be stored. A file that gets another owner instead may
    become readable, or writable, by someone else.
    """
    with _mapped(kit) as driver, rejected(f"ApplyDiff with user {_STRANGER}"):
        kit.applied(tars.tar(tars.file(b"strange", uid=_STRANGER)), driver=driver)


@GROUP.case(Need.HOMES, see=references.UNMAPPED, required=False)
def unmapped_owner_is_named(kit: Kit) -> None:
    """The error names the owner that no map contains.

    The user must widen the map or change the image, and needs the number for both.
    """
    with _mapped(kit) as driver, rejected(f"ApplyDiff with user {_STRANGER}", str(_STRANGER)):
        kit.applied(tars.tar(tars.file(b"strange", uid=_STRANGER)), driver=driver)


@GROUP.case(Need.HOMES, see=references.CAPABILITIES, required=False)
def capability_is_the_containers(kit: Kit) -> None:
    """A file capability on disk is for the container's root (revision 3), and plain in a Diff.

    With ID maps the kernel accepts a capability only if it names the container's root. In an image
    it must be plain, for machines with other maps.
    """
    record = (b"SCHILY.xattr.security.capability", CAPABILITY)
    data = tars.tar(tars.pax([record]), tars.file(b"ping", mode=0o755))
    with _mapped(kit) as driver:
        layer = kit.applied(data, driver=driver)
        value = kit.record(layer, driver)[b"ping"].attributes.get("security.capability", b"")
        expect("size of the capability on disk", len(value), 24)
        expect("its root user", int.from_bytes(value[-4:], "little"), _ROOT)
        copy = kit.applied(kit.diff(layer, driver=driver))
        expected = {"security.capability": CAPABILITY}
        expect("the capability in the Diff", kit.record(copy)[b"ping"].attributes, expected)
