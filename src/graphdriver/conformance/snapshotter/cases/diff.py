"""The diff service: layers that arrive as blobs and leave as blobs."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Final

import grpc

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.snapshotter import references
from graphdriver.conformance.snapshotter.calls import GZIP, TAR, expect_code
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.conformance.snapshotter.layers import directory, file, layer
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.diff.content import UNCOMPRESSED

GROUP: Group[Kit] = Group("diff", "the diff service: layers as blobs of a content store")

_OTHERS: Final = grpc.StatusCode.UNIMPLEMENTED
_LAYER: Final = layer(directory("d"), file("d/new", b"new"), file(".wh.gone"))
"""A layer with a file in a directory, and the deletion of another file."""


def _below(kit: Kit) -> str:
    def fill(root: Path) -> None:
        for name in ("gone", "kept"):
            (root / name).write_text(name)

    return kit.committed(write=fill)


def _expect_applied(applied: pb.Descriptor, tar: bytes) -> None:
    expect("the layer's media type", applied.media_type, TAR)
    expect("the layer's digest", applied.digest, f"sha256:{hashlib.sha256(tar).hexdigest()}")
    expect("the layer's size", applied.size, len(tar))


@GROUP.case(Need.CONTENT, see=references.DIFF)
def layer_is_applied(kit: Kit) -> None:
    """Apply fills a snapshot with a layer's files and deletions, and answers its digest and size.

    containerd compares the digest with that of the image, and refuses the image if it is another one.
    """
    key, name = kit.key("active"), kit.key("committed")
    applied = kit.diffs.apply(kit.content.add(_LAYER), kit.calls.prepare(key, _below(kit)))
    _expect_applied(applied, _LAYER)
    kit.calls.commit(name, key)
    found = {path: facts.content for path, facts in kit.record(name).items()}
    expect("content of the snapshot", found, {b"d": b"", b"d/new": b"new", b"kept": b"kept"})


@GROUP.case(Need.CONTENT, see=references.DIFF)
def gzip_is_inflated(kit: Kit) -> None:
    """Apply inflates a layer, and answers digest and size of what it inflated.

    An image's configuration names the digests of tars; most blobs are compressed.
    """
    key, name = kit.key("active"), kit.key("committed")
    digest = kit.content.add(gzip.compress(_LAYER))
    applied = kit.diffs.apply(digest, kit.calls.prepare(key), GZIP)
    _expect_applied(applied, _LAYER)
    kit.calls.commit(name, key)
    expect("content of a file", kit.record(name)[b"d/new"].content, b"new")


@GROUP.case(Need.CONTENT, see=references.DIFF)
def another_blob_is_refused(kit: Kit) -> None:
    """A blob that does not have its digest is an error of Apply, and cannot be committed.

    A disk may have damaged it. containerd checks only the digest that Apply answers, and not that a
    snapshot was left half-filled.
    """
    key = kit.key("active")
    right = f"sha256:{hashlib.sha256(_LAYER).hexdigest()}"
    digest = kit.content.add(b"old".join(_LAYER.rsplit(b"new", 1)), right)
    mounts = kit.calls.prepare(key)
    for what, call in (
        ("Apply of a damaged blob", lambda: kit.diffs.apply(digest, mounts)),
        ("Commit after it", lambda: kit.calls.commit(kit.key("committed"), key)),
    ):
        try:
            call()
        except grpc.RpcError:
            continue
        raise Mismatch(what, "success", "an error")


@GROUP.case(Need.CONTENT, see=references.DIFF)
def mounts_of_others_are_left(kit: Kit) -> None:
    """Apply to mounts of another snapshotter is Unimplemented, and writes nothing there.

    containerd then asks the next differ of its configuration. Any other code ends the pull.
    """
    place = kit.scratch / "other"
    place.mkdir()
    other = [pb.Mount(type="bind", source=str(place), options=["rw", "rbind"])]
    digest = kit.content.add(_LAYER)
    expect_code("Apply to other mounts", _OTHERS, lambda: kit.diffs.apply(digest, other))
    expect("content of the other directory", sorted(place.iterdir()), [])


@GROUP.case(Need.CONTENT, see=references.DIFF)
def unknown_media_types_are_left(kit: Kit) -> None:
    """Apply of an unknown media type is Unimplemented, and leaves the snapshot empty.

    Another differ, such as one for encrypted layers, may know it.
    """
    key = kit.key("active")
    mounts, digest = kit.calls.prepare(key), kit.content.add(_LAYER)
    kind = "application/vnd.example.unknown"
    expect_code("Apply of another type", _OTHERS, lambda: kit.diffs.apply(digest, mounts, kind))
    with kit.shown(mounts, is_new=True) as root:
        expect("content of the snapshot", sorted(root.iterdir()), [])


@GROUP.case(Need.CONTENT, see=references.DIFF)
def changes_become_a_layer(kit: Kit) -> None:
    """Diff writes what a snapshot has changed, and nothing else, as a blob with the digest of its tar.

    This is a commit of a container. The label is how containerd finds the layer's diff ID without
    inflating the blob.
    """

    def change(root: Path) -> None:
        (root / "gone").unlink()
        (root / "new").write_text("new")

    below = _below(kit)
    left = kit.calls.view(kit.key("view"), below)
    right = kit.calls.mounts(kit.active(below, change))
    made = kit.diffs.diff(left, right)
    expect("the layer's media type", made.media_type, GZIP)
    blob = kit.content.blob(made.digest)
    if blob is None:
        raise Mismatch("the blob in the content store", "no blob", made.digest)
    expect("the blob's size", made.size, len(blob))
    tar = gzip.decompress(blob)
    label = kit.content.labels.get(made.digest, {}).get(UNCOMPRESSED)
    expect(f"the label {UNCOMPRESSED}", label, f"sha256:{hashlib.sha256(tar).hexdigest()}")
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = {name.removeprefix("./") for name in archive.getnames()} - {"", "."}
    expect("names in the layer", sorted(names), [".wh.gone", "new"])
