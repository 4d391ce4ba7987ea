"""The life of a layer, from Create to Remove."""

from __future__ import annotations

import os

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, rejected
from graphdriver.conformance.plugin import references
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("layers", "the life of a layer, from Create to Remove")


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def exists_from_create_to_remove(kit: Kit) -> None:
    """A layer exists from its Create to its Remove.

    The kit finds out by Exists whether a call did something; nearly all other cases rely on it.
    Current daemons do not call Exists, other clients do.
    """
    id = kit.id()
    expect("Exists before Create", kit.driver.exists(id), False)
    kit.driver.create(id, "", "", {})
    expect("Exists after Create", kit.driver.exists(id), True)
    kit.driver.remove(id)
    expect("Exists after Remove", kit.driver.exists(id), False)


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def new_layer_is_empty(kit: Kit) -> None:
    """A new layer without parent is an empty directory of root, 0755, at an absolute path.

    A base image is applied to such a layer. Leftovers in it become a part of the image, and a root
    directory of mode 0700 keeps every user but root out.
    """
    id = kit.layer()
    expect("content of a new layer", kit.record(id), {})
    with kit.shown(id, is_read=True) as root:
        found = os.stat(root)
        expect("mode of the root directory", oct(found.st_mode & 0o7777), oct(0o755))
        expect("owner of the root directory", (found.st_uid, found.st_gid), (0, 0))


@GROUP.case(see=references.REMOVE_IS_REPEATED)
def remove_of_nothing_succeeds(kit: Kit) -> None:
    """Remove of a layer that does not exist, or no longer exists, succeeds.

    A daemon repeats a Remove whose response it did not receive, and reports an error as a layer
    that cannot be deleted.
    """
    kit.driver.remove(kit.id())
    id = kit.layer()
    kit.driver.remove(id)
    kit.driver.remove(id)


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def removed_id_can_be_used_again(kit: Kit) -> None:
    """The ID of a removed layer can be used again, and shows nothing of the old layer.

    Some clients give a layer the same ID each time, for example moby's own tests. Old content would
    become a part of the new layer.
    """
    id = kit.layer(fill=lambda root: (root / "old").touch())
    kit.driver.remove(id)
    kit.driver.create(id, "", "", {})
    expect("content of a layer with a used ID", kit.record(id), {})


@GROUP.case(see=references.MOUNTED_AT_REMOVE)
def mounted_layer_can_be_removed(kit: Kit) -> None:
    """A layer can be removed after a Get without a Put.

    A daemon that is killed sends no Put for its mounted layers; the next daemon removes those
    layers.
    """
    id = kit.layer()
    kit.driver.get(id, "")
    kit.driver.remove(id)
    expect("Exists after Remove", kit.driver.exists(id), False)


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def id_is_used_once(kit: Kit) -> None:
    """Create and CreateReadWrite of an ID that exists are rejected, and do not change its layer.

    A Create that succeeds twice gives two callers one layer, and each writes into the other's
    image.
    """
    id = kit.layer(fill=lambda root: (root / "kept").touch())
    with rejected("Create of an ID that exists"):
        kit.driver.create(id, "", "", {})
    with rejected("CreateReadWrite of an ID that exists"):
        kit.driver.create_read_write(id, "", "", {})
    expect("content of the layer after that", list(kit.record(id)), [b"kept"])


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def parent_must_exist(kit: Kit) -> None:
    """Create with a parent that does not exist is rejected, and creates nothing.

    A layer without the parent that was asked for shows an image with most of its files missing.
    """
    id = kit.id()
    with rejected("Create with a parent that does not exist"):
        kit.driver.create(id, kit.id(), "", {})
    expect("Exists after a Create that failed", kit.driver.exists(id), False)
    kit.driver.create(id, "", "", {})


@GROUP.case()
def gets_nest(kit: Kit) -> None:
    """Several Gets of a layer return the same directory, which stays until the last Put.

    A daemon sends Get to run a container, and again to copy from it, commit it or inspect it. The
    first Put must not unmount the directory for the others.
    """
    id = kit.layer()
    outer = kit.driver.get(id, "")
    inner = kit.driver.get(id, "")
    expect("Dir of a second Get", inner, outer)
    with kit.opened(inner, is_new=True) as root:
        (root / "file").write_text("x")
    kit.driver.put(id)
    with kit.opened(outer, is_read=True) as root:
        expect("a file after the first of two Puts", (root / "file").read_text(), "x")
    kit.driver.put(id)
    expect("content of the layer after both", list(kit.record(id)), [b"file"])


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def status_and_metadata_are_text(kit: Kit) -> None:
    """Status returns pairs of strings, and GetMetadata a map from string to string.

    The daemon reads only strings here. A number makes docker inspect fail as a whole.
    """
    id = kit.layer()
    for pair in kit.driver.status():
        expect("a pair of Status", [type(text) for text in pair], [str, str])
    for pair in kit.driver.get_metadata(id).items():
        expect("a pair of GetMetadata", [type(text) for text in pair], [str, str])
