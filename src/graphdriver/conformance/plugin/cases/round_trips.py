"""A Diff that is applied again gives the same layer."""

from __future__ import annotations

import contextlib
import io
import os

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import edit
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.cases.chains import build_at
from graphdriver.conformance.plugin.diffs import entries, expect_changes
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("round-trips", "a Diff that is applied again")


@GROUP.case(see=references.LAYERS_TRAVEL)
def whole_tree(kit: Kit) -> None:
    """A layer's Diff against no parent, applied, shows all that the layer shows.

    docker commit, and each COPY of a build, reads a Diff and applies it to a new layer. Whatever is
    lost on the way is lost in the image.
    """
    layer = kit.layer(fill=build_at)
    copy = kit.applied(kit.diff(layer))
    expect_tree("content of the applied layer", kit.record(copy), kit.record(layer))


@GROUP.case(see=references.LAYERS_TRAVEL)
def all_kinds_of_changes(kit: Kit) -> None:
    """A layer's Diff, applied on its parent, shows all that the layer shows.

    An image that was pushed and pulled is its Diffs, applied one on the other. It must be the image
    that was built, deletions and replacements included.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base, edit)
    copy = kit.applied(kit.diff(layer, base), base)
    expect_tree("content of the applied layer", kit.record(copy), kit.record(layer))


@GROUP.case(see=references.SAME_DIGEST)
def same_bytes_every_time(kit: Kit) -> None:
    """The Diff of a layer is the same bytes every time.

    BuildKit asks for a layer's Diff several times and compares digests. One different byte makes
    the build fail, or its cache useless.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base, edit)
    whole, changed = kit.diff(base), kit.diff(layer, base)
    with kit.shown(base), kit.shown(layer):
        pass
    expect("whether a second Diff is the same bytes", kit.diff(base) == whole, True)
    expect("whether a second Diff against the parent is", kit.diff(layer, base) == changed, True)


@GROUP.case(see=references.SAME_DIGEST, required=False)
def same_bytes_of_a_copy(kit: Kit) -> None:
    """A layer made from another layer's Diff has the same Diff, byte for byte.

    Two machines that build on the same layer get the same digest only if the Diff does not depend
    on how the layer was made.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base, edit)
    whole, changed = kit.diff(base), kit.diff(layer, base)
    copied_base = kit.applied(whole)
    copy = kit.applied(changed, copied_base)
    expect("whether the Diff of a copy is the same bytes", kit.diff(copied_base) == whole, True)
    expect("whether a Diff on it is", kit.diff(copy, copied_base) == changed, True)


@GROUP.case()
def diff_against_any_ancestor(kit: Kit) -> None:
    """A Diff against a layer further below contains all changes since.

    A daemon compares a container's layer with the layer below the container's init layer, for
    example, so it asks for the changes of two layers at once.
    """
    one = kit.applied(tars.tar(tars.file(b"one"), tars.file(b"gone")))
    two = kit.layer(one, lambda root: (root / "two").touch())
    three = kit.layer(two, lambda root: os.rename(root / "gone", root / "three"))
    data = kit.diff(three, one)
    expect("names in the Diff", sorted(entries(data)), [".wh.gone", "three", "two"])
    copy = kit.applied(data, one)
    expect_tree("content of the applied layer", kit.record(copy), kit.record(three))


@GROUP.case()
def diff_against_nothing(kit: Kit) -> None:
    """A Diff against no parent contains all that the layer shows, lower layers included.

    A daemon asks for a Diff without a parent for a first layer, and to export a whole image.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base, edit)
    copy = kit.applied(kit.diff(layer, ""))
    expect_tree("content of the applied layer", kit.record(copy), kit.record(layer))


@GROUP.case(see=references.EMPTY_LAYERS)
def unchanged_layer(kit: Kit) -> None:
    """A layer without changes has no Changes, a DiffSize of 0 and a Diff without entries.

    A build step that changes nothing produces an empty layer. Anything in it would change the
    image's digest and size.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base)
    with kit.shown(layer) as root:
        (root / "etc" / "passwd").read_bytes()
    expect_changes("Changes", kit.driver, layer, base, [])
    expect("DiffSize", kit.driver.diff_size(layer, base), 0)
    data = kit.diff(layer, base)
    expect("names in the Diff", sorted(entries(data)), [])
    copy = kit.applied(data, base)
    expect_tree("content of a layer made from its Diff", kit.record(copy), kit.record(base))


@GROUP.case(see=references.EMPTY_LAYERS)
def empty_streams_are_empty_layers(kit: Kit) -> None:
    """A complete tar of no bytes, or of zeros alone, makes an empty layer of size 0.

    Images contain layers of no bytes, or of zeros alone, from build steps that changed nothing. An
    image with such a layer must load.
    """
    base = kit.layer(fill=lambda root: (root / "one").touch())
    for data in (b"", bytes(512), bytes(1024), bytes(10_240)):
        layer = kit.id()
        kit.driver.create(layer, base, "", {})
        size = kit.driver.apply_diff(layer, base, io.BytesIO(data))
        expect(f"Size of a tar of {len(data)} bytes of zeros", size, 0)
        expect_tree("content of the layer", kit.record(layer), kit.record(base))


@GROUP.case()
def diff_can_be_left_unread(kit: Kit) -> None:
    """A Diff that is read in part blocks neither the next Diff nor Remove.

    A build that is cancelled leaves its Diff unread. The layer must not stay in use.
    """
    layer = kit.layer(fill=lambda root: (root / "large").write_bytes(bytes(16 << 20)))
    for _ in range(2):
        expect("names in a whole Diff", list(entries(kit.diff(layer))), ["large"])
        with contextlib.closing(kit.driver.diff(layer, "")) as stream:
            stream.read(10)
    kit.driver.remove(layer)
    expect("Exists after Remove", kit.driver.exists(layer), False)


@GROUP.case()
def exact_diffs_are_exact(kit: Kit) -> None:
    """A driver that reports ReproducesExactDiffs returns exactly the bytes that were applied.

    A daemon asks such a plugin for the Diff at save and push, and expects the tar that was applied:
    any different byte breaks the image's digest.
    """
    if not kit.driver.capabilities().reproduces_exact_diffs:
        return
    data = tars.tar(tars.file(b"./b", mtime=3), tars.directory(b"a/"), tars.file(b"c")) + bytes(
        5120
    )
    layer = kit.applied(data)
    expect("whether the Diff is the applied tar", kit.diff(layer) == data, True)
