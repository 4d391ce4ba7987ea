"""Calls that break off, and calls that a daemon repeats."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.plugin import references, tars, wire
from graphdriver.conformance.plugin.diffs import entries
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.conformance.plugin.wire import LAST_CHUNK

GROUP: Group[Kit] = Group("broken-calls", "calls that break off, and repeated calls")

_SIZE: Final = 60_000
_FILES: Final = [
    tars.file(b"file-%d" % number, bytes([65 + number]) * _SIZE) for number in range(3)
]
_TAR: Final = tars.tar(*_FILES)
_NAMES: Final = [b"file-0", b"file-1", b"file-2"]

_BIG: Final = 24 << 20
"""Bytes of a Diff that no buffer between plugin and daemon holds."""

_EARLY: Final = 1.0
"""Seconds within which a response arrives that is not delayed."""

_NEEDING: Final[dict[str, dict[str, str]]] = {
    "Create": {"ID": ""},
    "CreateReadWrite": {"ID": ""},
    "Get": {"ID": ""},
    "Put": {"ID": ""},
    "Remove": {"ID": ""},
    "Changes": {"ID": ""},
    "DiffSize": {"ID": ""},
    "Diff": {"ID": ""},
    "Init": {"Home": ""},
}
"""Calls that mean nothing without a body."""


@GROUP.case(Need.SOCKET)
def repeated_json_call_is_rejected(kit: Kit) -> None:
    """A call that needs an ID or a home is rejected if it arrives with an empty body.

    A daemon repeats a call whose connection broke. The body was consumed before, so the call
    arrives with Content-Length 0. A status of 200 tells the daemon that the call was done.
    """
    for name in _NEEDING:
        with kit.subject.wire() as daemon:
            if not daemon.ask(wire.sent_again(name)).rejection:
                raise Mismatch(f"{name} with an empty body", "success", "an error")


@GROUP.case(Need.SOCKET)
def half_a_json_call_does_nothing(kit: Kit) -> None:
    """A JSON call with a body that breaks off changes nothing.

    A daemon that is killed leaves half a request. What can be read of it, perhaps a shortened ID,
    was not asked for.
    """
    id, kept = kit.id(), kit.layer()
    create, remove = wire.call("Create", ID=id), wire.call("Remove", ID=kept)
    for whole in (create, remove):
        with kit.subject.wire() as daemon:
            daemon.send(whole[:-4]).end_sending()
            daemon.rest()
    found = [kit.driver.exists(one) for one in (id, kept)]
    expect("Exists of the layer to create, and of the one to remove", found, [False, True])


def _breaks_off(kit: Kit, sent: Iterable[bytes], what: str) -> None:
    """Send a part of a layer and break off; see that it is no success, and can be mended."""
    id = kit.id()
    with kit.subject.wire() as daemon:
        expect("the error of Create", daemon.ask(wire.call("Create", ID=id)).rejection, "")
        daemon.send(wire.apply_head(id), *sent).end_sending()
        answer = None
        try:
            answer = daemon.answer()
        except wire.SilentError:
            raise
        except Mismatch:  # no answer, or a part of one, is none
            pass
        if answer and answer.is_whole and not answer.rejection:
            asked = f"the response to an ApplyDiff that broke off {what}"
            raise Mismatch(asked, f"success: {answer.body!r}", "an error, or none")
    with kit.subject.wire() as daemon:
        rejection = daemon.ask(wire.call("Remove", ID=id)).rejection
        expect(f"the error of Remove after a transfer that broke {what}", rejection, "")
        expect("the error of Create after it", daemon.ask(wire.call("Create", ID=id)).rejection, "")
        again = daemon.ask(wire.apply(id, _TAR))
        expect("the error of ApplyDiff after it", again.rejection, "")
        expect("Size", again.members.get("Size"), 3 * _SIZE)
    expect("content of the layer then", sorted(kit.record(id)), _NAMES)


_CHUNKS: Final = list(wire.chunks(_TAR, 20_000))


@GROUP.case(Need.SOCKET)
def transfer_broken_in_a_chunk(kit: Kit) -> None:
    """An ApplyDiff that breaks off within a chunk fails; after Remove the layer can load again.

    The daemon was killed, or the pull was cancelled. It sends Remove, and the next pull loads the
    layer again.
    """
    _breaks_off(kit, [*_CHUNKS[:3], _CHUNKS[3][:10_000]], "within a chunk")


@GROUP.case(Need.SOCKET)
def transfer_broken_between_chunks(kit: Kit) -> None:
    """An ApplyDiff that breaks off between two chunks, or between two files, fails.

    The part that came is a well-formed beginning of the tar. Accepted, it is an image with files
    missing, which survives every later pull.
    """
    pieces = [chunk for file in _FILES[:2] for chunk in wire.chunks(file)]
    _breaks_off(kit, pieces, "between two chunks")


@GROUP.case(Need.SOCKET)
def transfer_without_its_last_chunk(kit: Kit) -> None:
    """An ApplyDiff of a whole tar, without the chunk that ends the body, fails.

    Without the last chunk the plugin cannot know that the tar was whole. Some HTTP libraries report
    such a body as complete.
    """
    _breaks_off(kit, _CHUNKS, "before the chunk that ends it")


@GROUP.case(Need.SOCKET)
def transfer_that_breaks_at_once(kit: Kit) -> None:
    """An ApplyDiff without a byte of its body, as daemons repeat it, fails.

    This is how a daemon repeats an ApplyDiff whose connection broke. Taken for an empty layer, the
    image lacks all files of the layer.
    """
    _breaks_off(kit, [], "at once")


@GROUP.case(Need.SOCKET, required=False)
def broken_layer_is_unusable(kit: Kit) -> None:
    """A layer with a broken transfer is rejected by Get, and as a parent, until it is removed.

    The daemon's Remove may never come, for example because the daemon was killed. The next one must
    not find half a layer that looks whole.
    """
    id = kit.id()
    with kit.subject.wire() as daemon:
        daemon.ask(wire.call("Create", ID=id))
        daemon.send(wire.apply_head(id), *_CHUNKS[:4]).end_sending()
        daemon.rest()
    with kit.subject.wire() as daemon:
        for call in (wire.call("Get", ID=id), wire.call("Create", ID=kit.id(), Parent=id)):
            if not daemon.ask(call).rejection:
                what = "Get of a layer whose transfer broke off, or Create with it as parent"
                raise Mismatch(what, "success", "an error")


@GROUP.case(Need.SOCKET, required=False)
def tail_of_a_broken_transfer_is_rejected(kit: Kit) -> None:
    """After a broken transfer, a second one with a well-formed tail of the tar is rejected.

    A client that can send only the rest of a stream repeats ApplyDiff with a well-formed tail of
    the tar. No parser can detect that, so a layer must accept one ApplyDiff only.
    """
    _sends_a_tail(kit)


@GROUP.case(Need.SOCKET)
def tail_is_rejected_where_diffs_are_exact(kit: Kit) -> None:
    """A plugin that reports ReproducesExactDiffs rejects the tail after a broken transfer.

    To a driver that reports ReproducesExactDiffs a daemon repeats ApplyDiff with the rest of the
    tar, which begins at a header. The daemon calls the layer good if the plugin does.
    """
    if kit.driver.capabilities().reproduces_exact_diffs:
        _sends_a_tail(kit)


def _sends_a_tail(kit: Kit) -> None:
    id = kit.id()
    with kit.subject.wire() as daemon:
        daemon.ask(wire.call("Create", ID=id))
        daemon.send(wire.apply_head(id), *_CHUNKS[:4]).end_sending()
        daemon.rest()
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.apply(id, tars.tar(_FILES[2])))
    if not answer.rejection:
        raise Mismatch("a second ApplyDiff with the tail of the first", "success", "an error")


@GROUP.case(Need.SOCKET)
def empty_body_is_an_empty_layer(kit: Kit) -> None:
    """A complete body of no bytes, or of zero blocks, makes an empty layer of size 0.

    docker import of an empty file, and layers of zero bytes, send a complete body without entries.
    """
    for body in (b"", bytes(512), bytes(1024), bytes(10_240)):
        id = kit.layer()
        with kit.subject.wire() as daemon:
            answer = daemon.ask(wire.apply(id, body))
        expect(f"the error of a layer of {len(body)} zero bytes", answer.rejection, "")
        expect("Size", answer.members.get("Size", 0), 0)
        expect("content of the layer", kit.record(id), {})


@GROUP.case(Need.SOCKET)
def chunks_of_any_size(kit: Kit) -> None:
    """A layer is the same after chunks of 1, 512, 32,768 or a million bytes.

    Daemons send a layer in chunks of 512 bytes to 32 KiB, which may end anywhere, also within a
    header.
    """
    small = tars.tar(tars.file(b"a", b"x" * 700), tars.directory(b"d"), tars.file(b"d/b", b"y"))
    for data, size in ((small, 1), (_TAR, 512), (_TAR, 32 << 10), (_TAR, 1 << 20)):
        id = kit.layer()
        with kit.subject.wire() as daemon:
            daemon.send(wire.apply_head(id), b"".join(wire.chunks(data, size)), LAST_CHUNK)
            expect(f"the error of chunks of {size} bytes", daemon.answer().rejection, "")
        names = _NAMES if data is _TAR else [b"a", b"d", b"d/b"]
        expect(f"content of a layer in chunks of {size} bytes", sorted(kit.record(id)), names)


@GROUP.case(Need.SOCKET, required=False)
def body_of_known_length(kit: Kit) -> None:
    """An ApplyDiff with Content-Length instead of chunks is accepted.

    Clients other than Go's know the length of a body and send it.
    """
    id = kit.layer()
    target = f"/GraphDriver.ApplyDiff?id={id}&parent="
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.head(target, f"Content-Length: {len(_TAR)}"), _TAR)
    expect("the error of a body of known length", answer.rejection, "")
    expect("content of the layer", sorted(kit.record(id)), _NAMES)


@GROUP.case(Need.SOCKET)
def reader_of_a_diff_goes_away(kit: Kit) -> None:
    """A Diff without its reader does not affect the layer: it can be read again, and removed.

    A commit, build or push that is cancelled leaves a Diff unread. The layer must not stay in use,
    or locked.
    """
    id = kit.applied(tars.tar(tars.file(b"big", bytes(8 << 20))))
    for _ in range(3):
        with kit.subject.wire() as daemon:
            daemon.send(wire.call("Diff", ID=id))
            daemon.take(5000)
    whole = kit.diff(id)
    expect("whether a later Diff is whole", len(whole) > 8 << 20, True)
    kit.driver.remove(id)
    expect("Exists after Remove", kit.driver.exists(id), False)


@GROUP.case(Need.SOCKET, see=references.SHRUNK)
def file_that_shrinks_under_a_diff(kit: Kit) -> None:
    """A Diff of a file that is truncated meanwhile breaks off, or is still a whole tar.

    A container keeps running while it is committed, and its files may become shorter. A Diff that
    cannot be completed must break off. If it ends normally, half an image is taken for a whole one.
    """
    id = kit.applied(tars.tar(tars.file(b"big", bytes(_BIG)), tars.file(b"last")))
    with kit.shown(id) as root, kit.subject.wire() as daemon:
        daemon.send(wire.call("Diff", ID=id))
        begun = daemon.take(100_000)
        os.truncate(root / "big", 1 << 20)
        answer = daemon.answer(begun)
    if answer.is_whole and answer.status == 200:
        found = [name for name, entry in entries(answer.body).items() if not entry.isdir()]
        expect("the names in a Diff that did not break off", found, ["big", "last"])


@GROUP.case(Need.SOCKET)
def error_reaches_the_sender(kit: Kit) -> None:
    """A tar that is damaged at its start, with megabytes after it, gets an error as its response.

    A daemon that still sends when the plugin closes the connection may never read the reason. Its
    user sees a broken pipe instead.
    """
    id = kit.layer()
    with kit.subject.wire() as daemon:
        # A plugin may close early, as soon as its answer is there to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            daemon.send(wire.apply_head(id))
            for _ in range(64):
                daemon.send(*wire.chunks(b"no tar at all. " * 4096))
            daemon.send(LAST_CHUNK)
        answer = daemon.answer()
    if not answer.rejection:
        raise Mismatch("ApplyDiff of data that is not a tar", "success", "an error")


@GROUP.case(Need.SOCKET, required=False)
def error_waits_for_the_body(kit: Kit) -> None:
    """An ApplyDiff that fails at its start gets its response after the whole body was sent.

    Docker 20.10.24 can crash (index out of range, in compress/flate) when the response to ApplyDiff
    arrives while it still sends: it then closes a record of the layer that another thread writes
    to.
    """
    id = kit.layer()
    with kit.subject.wire() as daemon:
        daemon.send(wire.apply_head(id), *wire.chunks(b"no tar at all. " * 4096))
        daemon.socket.settimeout(_EARLY)
        try:
            found = daemon.take(12) or b"the connection's end"
        except wire.SilentError:
            found = b""
        if found:
            asked = "the response to a failing ApplyDiff before its last chunk"
            raise Mismatch(asked, found, "nothing yet")
        daemon.socket.settimeout(wire.TIMEOUT)
        if not daemon.ask(LAST_CHUNK).rejection:
            raise Mismatch("ApplyDiff of data that is not a tar", "success", "an error")
