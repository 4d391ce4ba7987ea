"""The diff service over the content store of a real containerd: what it refuses, what is left then."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from graphdriver.blobs.formats import FORMATS
from graphdriver.conformance.kit.tree import record
from graphdriver.conformance.plugin import tars
from graphdriver.conformance.snapshotter.calls import DiffCalls, code_of
from graphdriver.conformance.snapshotter.content import Content
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.diff.content import Caller, ContentStore
from graphdriver.containerd.diff.service import SERVICE
from tests.support.containerd import Containerd
from tests.support.mounting import mounted
from tests.support.snapshotter import Snapshotter, on_driver
from tests.support.waiting import wait_until
from tests.support.zstd_module import zstd

pytestmark = pytest.mark.root

TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER = tars.tar(tars.directory(b"d"), tars.file(b"d/f", b"content"), tars.hard_link(b"g", b"d/f"))
NAMESPACE = (("containerd-namespace", "default"),)


@pytest.fixture(params=["erofs", "vfs"])
def snapshotter(request: pytest.FixtureRequest, folder: Path) -> Iterator[Snapshotter]:
    with on_driver(request.param, folder) as one:
        yield one


@pytest.fixture
def containerd(folder: Path, snapshotter: Snapshotter) -> Iterator[Containerd]:
    with Containerd(folder, snapshotter.address).running() as running:
        yield running


class Diffs:
    """The calls of containerd's diff service."""

    def __init__(self, snapshotter: Snapshotter, containerd: Containerd) -> None:
        self._channel = grpc.insecure_channel(f"unix:{snapshotter.address}")
        self._containerd = containerd

    def ingest(self, blob: bytes) -> str:
        """Put a blob into the content store, with a lease; return its digest."""
        caller = Caller("default", "", lambda _: True)
        with contextlib.closing(ContentStore(f"{self._containerd.folder}/c.sock")) as store:
            return store.write(iter([blob]), "", dict, caller)[0]

    def apply(self, digest: str, mounts: Sequence[pb.Mount], media_type: str = TAR) -> Any:
        """Begin an Apply; ``result()`` returns the layer's descriptor."""
        call = self._channel.unary_unary(
            f"/{SERVICE}/Apply", pb.ApplyRequest.SerializeToString, pb.ApplyResponse.FromString
        )
        blob = pb.Descriptor(media_type=media_type, digest=digest, size=1)
        return call.future(pb.ApplyRequest(diff=blob, mounts=mounts), metadata=NAMESPACE)

    def diff(
        self, left: Sequence[pb.Mount], right: Sequence[pb.Mount], media_type: str = ""
    ) -> pb.Descriptor:
        found: pb.Descriptor = self.begin_diff(left, right, media_type).result().diff
        return found

    def begin_diff(
        self, left: Sequence[pb.Mount], right: Sequence[pb.Mount], media_type: str = ""
    ) -> Any:
        """Begin a Diff; ``result()`` returns the layer's descriptor."""
        call = self._channel.unary_unary(
            f"/{SERVICE}/Diff", pb.DiffRequest.SerializeToString, pb.DiffResponse.FromString
        )
        request = pb.DiffRequest(left=left, right=right, media_type=media_type, ref="a-ref")
        return call.future(request, metadata=NAMESPACE)


@pytest.fixture
def diffs(snapshotter: Snapshotter, containerd: Containerd) -> Diffs:
    return Diffs(snapshotter, containerd)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the code and the text with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return code_of(error), error.details()


def identity(data: bytes) -> bytes:
    return data


def test_layers_of_each_media_type_are_applied(
    diffs: Diffs, snapshotter: Snapshotter, folder: Path
) -> None:
    calls = snapshotter.calls
    for number, (media_type, compression) in enumerate(FORMATS.items()):
        pack = {"": identity, "gzip": gzip.compress, "zstd": zstd.compress}[compression]
        halves = pack(LAYER[:1000]) + pack(LAYER[1000:])  # both take blobs of several parts
        mounts = calls.prepare("default/1/one")
        applied = diffs.apply(diffs.ingest(halves), mounts, media_type).result().applied
        assert applied.media_type == TAR
        assert applied.digest == f"sha256:{hashlib.sha256(LAYER).hexdigest()}"
        assert applied.size == len(LAYER)
        calls.commit(f"default/2/{number}", "default/1/one")
        with mounted(calls.view("default/3/look", f"default/2/{number}"), folder / "shown") as root:
            assert (root / "g").read_bytes() == b"content"
            assert record(str(root))[b"g"].file == b"d/f"
        calls.remove("default/3/look")


def test_the_answer_is_a_sha256_whatever_the_digest_of_the_blob_is(
    snapshotter: Snapshotter, folder: Path
) -> None:
    digest = f"sha512:{hashlib.sha512(LAYER).hexdigest()}"
    with (
        Content(f"{folder}/c.sock") as content,
        contextlib.closing(DiffCalls(snapshotter.address)) as diffs,
    ):
        content.add(LAYER, digest)
        applied = diffs.apply(digest, snapshotter.calls.prepare("default/1/one"))
    assert applied.digest == f"sha256:{hashlib.sha256(LAYER).hexdigest()}"


DAMAGED = [
    (gzip.compress(LAYER)[:-9], f"{TAR}+gzip", "ABORTED", "end early"),
    (gzip.compress(LAYER) + b"junk" * 9, f"{TAR}+gzip", "INVALID_ARGUMENT", "is no gzip"),
    (b"\x1f\x8b" + bytes(100), f"{TAR}+gzip", "INVALID_ARGUMENT", "is no gzip"),
    (zstd.compress(LAYER)[:-9], f"{TAR}+zstd", "ABORTED", "end early"),
    (zstd.compress(LAYER) + b"junk" * 9, f"{TAR}+zstd", "INVALID_ARGUMENT", "is no zstd"),
    (LAYER[:600], TAR, "INVALID_ARGUMENT", "in the middle"),
    (b"x" * 2048, TAR, "INVALID_ARGUMENT", ""),
]


def test_a_damaged_layer_is_refused_and_cannot_be_committed(
    diffs: Diffs, snapshotter: Snapshotter
) -> None:
    calls = snapshotter.calls
    for blob, media_type, code, text in DAMAGED:
        mounts = calls.prepare("default/1/one")
        call = diffs.apply(diffs.ingest(blob), mounts, media_type)
        found, why = refused(call.result)
        assert (found.name, text in why) == (code, True), why
        found, why = refused(lambda: calls.commit("default/2/one", "default/1/one"))
        assert (found.name, "did not finish" in why) == ("FAILED_PRECONDITION", True)
        found, why = refused(diffs.apply(diffs.ingest(LAYER), mounts).result)
        assert (found.name, "broke off" in why) == ("FAILED_PRECONDITION", True)
        calls.remove("default/1/one")
        assert not snapshotter.layers()


def test_a_blob_that_was_damaged_in_the_content_store_is_refused(
    diffs: Diffs, snapshotter: Snapshotter, folder: Path
) -> None:
    mounts = snapshotter.calls.prepare("default/1/one")
    digest = diffs.ingest(LAYER)
    blob = folder / "root/io.containerd.content.v1.content/blobs/sha256" / digest[7:]
    blob.chmod(0o600)
    blob.write_bytes(LAYER.replace(b"content", b"CONTENT"))
    found, why = refused(lambda: diffs.apply(digest, mounts).result())
    assert f"the blob {digest} has the digest sha256:" in why
    assert found.name == "INVALID_ARGUMENT"
    found, _ = refused(lambda: snapshotter.calls.commit("default/2/one", "default/1/one"))
    assert found.name == "FAILED_PRECONDITION"


def test_what_another_differ_may_know_is_left_to_it_unread(
    diffs: Diffs, snapshotter: Snapshotter, folder: Path
) -> None:
    calls = snapshotter.calls
    mounts = calls.prepare("default/1/one")
    digest = diffs.ingest(LAYER)
    outside = pb.Mount(type="bind", source=str(folder), options=["rw", "rbind"])
    near = pb.Mount(type="bind", source=f"{mounts[0].source}/../x", options=["rw", "rbind"])
    for other in ([outside], [near], [*mounts, *mounts], []):
        found, _ = refused(diffs.apply(digest, other).result)
        assert found.name == "UNIMPLEMENTED"
    found, _ = refused(lambda: diffs.apply(digest, mounts, "application/x+encrypted").result())
    assert found.name == "UNIMPLEMENTED"
    found, _ = refused(lambda: diffs.diff([], [outside]))
    assert found.name == "UNIMPLEMENTED"
    assert diffs.apply(digest, mounts).result().applied.size == len(LAYER)


def test_only_an_active_snapshot_is_filled_and_only_once(
    diffs: Diffs, snapshotter: Snapshotter
) -> None:
    calls = snapshotter.calls
    mounts = calls.prepare("default/1/one")
    digest = diffs.ingest(LAYER)
    diffs.apply(digest, mounts).result()
    found, why = refused(lambda: diffs.apply(digest, mounts).result())
    assert (found.name, "only once" in why) == ("FAILED_PRECONDITION", True)
    calls.commit("default/2/one", "default/1/one")
    view = calls.view("default/3/view", "default/2/one")
    found, _ = refused(lambda: diffs.apply(digest, view).result())
    assert found.name == "FAILED_PRECONDITION"
    found, _ = refused(lambda: diffs.apply(digest, mounts).result())
    assert found.name in {"FAILED_PRECONDITION", "UNIMPLEMENTED"}


def test_a_blob_that_is_not_there_is_not_found(diffs: Diffs, snapshotter: Snapshotter) -> None:
    mounts = snapshotter.calls.prepare("default/1/one")
    found, why = refused(lambda: diffs.apply(f"sha256:{'0' * 64}", mounts).result())
    assert (found.name, "pull the image again" in why) == ("NOT_FOUND", True)
    found, _ = refused(lambda: diffs.apply("sha256:../../etc/passwd", mounts).result())
    assert found.name in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}


def test_without_its_containerd_the_service_says_so(
    diffs: Diffs, snapshotter: Snapshotter, containerd: Containerd
) -> None:
    mounts = snapshotter.calls.prepare("default/1/one")
    digest = diffs.ingest(LAYER)
    containerd.stop()
    try:
        found, why = refused(lambda: diffs.apply(digest, mounts).result())
    finally:
        containerd.start()
    assert (found.name, "--containerd-socket" in why) == ("UNAVAILABLE", True)


def test_a_layer_ends_when_its_caller_is_gone(
    diffs: Diffs, snapshotter: Snapshotter, folder: Path
) -> None:
    mounts = snapshotter.calls.prepare("default/1/one")
    digest = diffs.ingest(tars.tar(tars.file(b"big", os.urandom(1 << 20) * 300)))
    call = diffs.apply(digest, mounts)
    wait_until((snapshotter.root / ".graphdriver/applying/1").exists)
    call.cancel()
    # The next call for the snapshot waits until the layer's lock is free.
    found, _ = refused(lambda: snapshotter.calls.commit("default/2/one", "default/1/one"))
    assert found.name == "FAILED_PRECONDITION"
    snapshotter.calls.remove("default/1/one")


def test_after_a_kill_in_the_middle_of_a_layer_it_cannot_be_committed(
    diffs: Diffs, snapshotter: Snapshotter
) -> None:
    mounts = snapshotter.calls.prepare("default/1/one")
    digest = diffs.ingest(tars.tar(tars.file(b"big", os.urandom(1 << 20) * 300)))
    call = diffs.apply(digest, mounts)
    wait_until((snapshotter.root / ".graphdriver/applying/1").exists)
    snapshotter.kill()
    with pytest.raises(grpc.RpcError):
        call.result()
    snapshotter.start()
    found, _ = refused(lambda: snapshotter.calls.commit("default/2/one", "default/1/one"))
    assert found.name == "FAILED_PRECONDITION"
    snapshotter.calls.remove("default/1/one")
    assert not snapshotter.layers()


def test_mounts_from_before_a_restart_are_known(
    diffs: Diffs, snapshotter: Snapshotter, folder: Path
) -> None:
    calls = snapshotter.calls
    diffs.apply(diffs.ingest(LAYER), calls.prepare("default/1/one")).result()
    calls.commit("default/2/one", "default/1/one")
    left = calls.view("default/3/left", "default/2/one")
    right = calls.prepare("default/4/right", "default/2/one")
    with mounted(right, folder / "shown") as root:
        (root / "new").write_bytes(b"new")
    before = diffs.diff(left, right)
    snapshotter.kill()
    snapshotter.start()
    assert diffs.diff(left, right) == before


def test_a_diff_is_labelled_and_kept_until_an_image_refers_to_it(
    diffs: Diffs, snapshotter: Snapshotter, containerd: Containerd, folder: Path
) -> None:
    calls = snapshotter.calls
    right = calls.prepare("default/4/right")
    with mounted(right, folder / "shown") as root:
        (root / "new").write_bytes(b"new")
    for suffix, unpack in (("", identity), ("+gzip", gzip.decompress), ("+zstd", zstd.decompress)):
        made = diffs.diff([], right, f"{TAR}{suffix}")
        again = diffs.diff([], right, f"{TAR}{suffix}")  # it exists already
        assert made == again
        blob = containerd.output("content", "get", made.digest)
        assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == made.digest
        assert len(blob) == made.size
        digest = hashlib.sha256(unpack(blob)).hexdigest()
        line = containerd.ctr("content", "ls", f"digest=={made.digest}")
        assert (f"containerd.io/uncompressed=sha256:{digest}" in line) == bool(suffix)
    assert "containerd.io/gc.expire=" in containerd.ctr("leases", "ls")
    assert containerd.ctr("content", "active").splitlines()[1:] == []


def test_nothing_is_left_of_a_diff_whose_caller_is_gone(
    diffs: Diffs, snapshotter: Snapshotter, containerd: Containerd, folder: Path
) -> None:
    right = snapshotter.calls.prepare("default/4/right")
    with mounted(right, folder / "shown") as root:
        (root / "big").write_bytes(os.urandom(1 << 20) * 300)
    call = diffs.begin_diff([], right, TAR)
    wait_until(lambda: "a-ref" in containerd.ctr("content", "active"))
    call.cancel()
    wait_until(lambda: "a-ref" not in containerd.ctr("content", "active"))
    assert diffs.diff([], right, TAR).size > 300 << 20
