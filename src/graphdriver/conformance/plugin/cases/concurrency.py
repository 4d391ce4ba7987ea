"""Many callers at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.plugin import tars, wire
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("concurrency", "many callers at once")

_BIG: Final = 24 << 20
"""Bytes of a Diff that no buffer between plugin and daemon holds."""


def _at_once(count: int, work: Callable[[int], object]) -> None:
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, number) for number in range(count)]:
            future.result()


@GROUP.case(Need.SOCKET)
def applied_while_a_diff_is_read(kit: Kit) -> None:
    """While half of a Diff is read, Create, ApplyDiff and Get work on a second connection.

    In docker commit, and in every COPY of a classic build, the body of a Diff is still being read
    while Create and ApplyDiff run on a second connection. A plugin that serves one call at a time
    hangs forever.
    """
    base = kit.applied(tars.tar(tars.file(b"big", bytes(_BIG))))
    id = kit.id()
    with kit.subject.wire() as reader, kit.subject.wire() as other:
        reader.send(wire.call("Diff", ID=base))
        begun = reader.take(100_000)
        other.socket.settimeout(kit.patience)
        tar = tars.tar(tars.file(b"new", b"x"))
        for call in (
            wire.call("Create", ID=id, Parent=base),
            wire.apply(id, tar, base),
            wire.call("Get", ID=id),
            wire.call("Put", ID=id),
        ):
            try:
                rejection = other.ask(call).rejection
            except wire.SilentError as silent:
                what = "a call on a second connection while a Diff is read"
                raise Mismatch(what, silent.saw, "an answer") from None
            expect("the error of a call while a Diff is read", rejection, "")
        diff = reader.answer(begun)
    expect("whether the rest of the Diff came", diff.is_whole and len(diff.body) > _BIG, True)
    expect("content of the new layer", sorted(kit.record(id)), [b"big", b"new"])


@GROUP.case()
def diffs_at_once(kit: Kit) -> None:
    """Eight layers' Diffs, read at once and piece by piece, are all complete.

    At the export of a build, BuildKit asks for the Diff of every layer at once, each on its own
    connection.
    """
    layers: list[str] = []
    for number in range(8):
        fill = tars.file(b"big", bytes([65 + number]) * (4 << 20))
        layers.append(kit.applied(tars.tar(fill), layers[-1] if layers else ""))
    expected = [kit.diff(id, parent) for id, parent in zip(layers, ["", *layers], strict=False)]
    with contextlib.ExitStack() as held:
        streams = [
            held.enter_context(contextlib.closing(kit.driver.diff(id, parent)))
            for id, parent in zip(layers, ["", *layers], strict=False)
        ]
        found = [b""] * len(streams)
        for number in [*range(8)] * 3:
            found[number] += streams[number].read(1 << 20)
        for number, stream in enumerate(streams):
            while piece := stream.read(1 << 20):
                found[number] += piece
    same = [one == other for one, other in zip(found, expected, strict=True)]
    expect("whether each is the same as when read alone", same, [True] * 8)


@GROUP.case(Need.SOCKET)
def sixty_four_connections(kit: Kit) -> None:
    """With 64 connections open, each of them serves a call.

    A daemon under load opens a connection for each of its calls. A call that waits for a free
    connection can wait for a call that waits for it.
    """
    id = kit.layer()
    with contextlib.ExitStack() as held:
        daemons = [held.enter_context(kit.subject.wire()) for _ in range(64)]
        for daemon in reversed(daemons):
            daemon.socket.settimeout(kit.patience)
            try:
                answer = daemon.ask(wire.call("Exists", ID=id))
            except wire.SilentError as silent:
                what = "a call on one of 64 connections"
                raise Mismatch(what, silent.saw, "an answer") from None
            expect("Exists", answer.members, {"Exists": True})


@GROUP.case()
def callers_with_layers_of_their_own(kit: Kit) -> None:
    """Eight callers create, write, read and remove layers at once, and each sees its own.

    Pulls, builds and containers work at the same time. State that is shared between
    layers, such as a temporary file or a current directory, mixes them up.
    """
    base = kit.layer(fill=lambda root: (root / "base").write_text("base"))

    def call(caller: int) -> None:
        text = f"caller {caller}"
        for _ in range(5):
            id = kit.layer(base, lambda root: (root / "mine").write_text(text))
            copy = kit.applied(kit.diff(id, base), base)
            for one in (id, copy):
                with kit.shown(one) as root:
                    found = (root / "base").read_text(), (root / "mine").read_text()
                expect("content of a caller's layer", found, ("base", text))
            for one in (copy, id):
                kit.driver.remove(one)
                expect("Exists after Remove", kit.driver.exists(one), False)

    _at_once(8, call)
    expect("content of the common parent", list(kit.record(base)), [b"base"])


@GROUP.case()
def children_of_one_parent_at_once(kit: Kit) -> None:
    """Sixteen children of one parent are created at once, while others read the parent.

    A host that starts sixteen containers of one image creates sixteen children at once, while
    others read the image.
    """
    base = kit.applied(tars.tar(*(tars.file(b"%d" % n, b"x" * n) for n in range(200))))
    before = kit.record(base)

    def make(number: int) -> None:
        id = kit.layer(base)
        expect(f"content of child {number}", kit.record(id) == before, True)

    _at_once(16, make)
    expect("content of the parent", kit.record(base) == before, True)


@GROUP.case(Need.SOCKET)
def same_layer_from_many(kit: Kit) -> None:
    """Of eight Creates of one ID at once, one succeeds; all Gets and Puts of it at once succeed.

    Two calls for one layer can be on two connections, also by a repeated call. Without a lock both
    find that the layer does not exist, and both create it.
    """
    id = kit.id()
    made: list[bool] = []
    directories: list[object] = []

    def create(_: int) -> None:
        with kit.subject.wire() as daemon:
            made.append(not daemon.ask(wire.call("Create", ID=id)).rejection)

    def get_and_put(_: int) -> None:
        with kit.subject.wire() as daemon:
            answer = daemon.ask(wire.call("Get", ID=id))
            expect("the error of a Get", answer.rejection, "")
            directories.append(answer.members.get("Dir"))
            expect("the error of a Put", daemon.ask(wire.call("Put", ID=id)).rejection, "")

    _at_once(8, create)
    expect("how many Creates of one ID were a success", made.count(True), 1)
    _at_once(8, get_and_put)
    expect("how many directories were shown", len(set(directories)), 1)
