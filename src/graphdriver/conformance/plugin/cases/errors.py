"""Rejected calls: which they are, their errors, and that the plugin survives them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect, rejected
from graphdriver.conformance.plugin import references, wire
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.driver import Driver

GROUP: Group[Kit] = Group("errors", "which calls are rejected, and how")

_Call = Callable[[Driver, str], object]

_ASKED: Final[dict[str, _Call]] = {
    "Get": lambda driver, layer: driver.get(layer, ""),
    "Diff": lambda driver, layer: driver.diff(layer, ""),
    "Changes": lambda driver, layer: driver.changes(layer, ""),
    "DiffSize": lambda driver, layer: driver.diff_size(layer, ""),
    "ApplyDiff": lambda driver, layer: driver.apply_diff(layer, "", io.BytesIO(bytes(1024))),
}


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def missing_layer_is_an_error(kit: Kit) -> None:
    """Get, Diff, Changes, DiffSize and ApplyDiff of a layer that does not exist are rejected.

    A daemon keeps its own list of layers. If the plugin has lost one, an empty response would be
    taken for the layer's content.
    """
    id = kit.id()
    for name, call in _ASKED.items():
        with rejected(f"{name} of a layer that does not exist"):
            call(kit.driver, id)
        expect(f"Exists after {name} of a missing layer", kit.driver.exists(id), False)


@GROUP.case(see=references.LIFE_OF_A_LAYER, required=False)
def missing_layer_is_an_error_to_put_and_metadata(kit: Kit) -> None:
    """Put and GetMetadata of a layer that does not exist are rejected.

    An error shows that daemon and plugin disagree about a layer, at the first call that touches it.
    """
    with rejected("Put of a layer that does not exist"):
        kit.driver.put(kit.id())
    with rejected("GetMetadata of a layer that does not exist"):
        kit.driver.get_metadata(kit.id())


@GROUP.case(see=references.LIFE_OF_A_LAYER)
def comparison_with_a_missing_parent_is_an_error(kit: Kit) -> None:
    """Diff, Changes and DiffSize against a parent that does not exist are rejected.

    A comparison with nothing, instead of the parent, lists the whole image as changed, and a commit
    stores all of it again.
    """
    id = kit.layer()
    for name in ("diff", "changes", "diff_size"):
        with rejected(f"{name} against a parent that does not exist"):
            getattr(kit.driver, name)(id, kit.id())


@GROUP.case(Need.SOCKET, required=False)
def errors_name_the_layer(kit: Kit) -> None:
    """The text of an error names the layer of the call, or the parent that does not exist.

    docker shows the plugin's text. A user with hundreds of layers cannot tell which one is meant by
    'no such file or directory'.
    """
    id = kit.id()
    for name, call in _ASKED.items():
        with rejected(f"{name} of a layer that does not exist", id):
            call(kit.driver, id)
    with rejected("Create with a parent that does not exist", id):
        kit.driver.create(kit.id(), id, "", {})


@GROUP.case(Need.SOCKET)
def error_of_diff_is_no_200(kit: Kit) -> None:
    """A Diff that fails before its first byte has a status other than 200.

    A daemon writes every byte that follows a status of 200 into the layer: an error text becomes
    the layer.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Diff", ID=kit.id()))
    if answer.status == 200:
        saw = f"200 and {answer.body[:200]!r}"
        raise Mismatch("the answer to Diff of a layer that does not exist", saw, "another status")


@GROUP.case(Need.SOCKET)
def errors_have_a_text(kit: Kit) -> None:
    """An error has a text: Err in its JSON, or its body.

    A daemon shows the plugin's error to its user, word for word. Without a text the user reads a
    status number, or nothing.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Get", ID=kit.id()))
    if not answer.rejection.strip() or not answer.body.strip():
        raise Mismatch("the text of a refusal", answer.body, "a text")


@GROUP.case(Need.SOCKET, required=False)
def errors_are_json(kit: Kit) -> None:
    """An error is a JSON object with the text in Err, and a status other than 200.

    From a JSON object with Err the daemon takes the text alone. From any other body it shows
    everything, tags and headers of an error page included.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Get", ID=kit.id()))
    if not answer.error:
        raise Mismatch("Err", answer.error, "a text")


@GROUP.case(Need.SOCKET)
def malformed_json_is_rejected(kit: Kit) -> None:
    """A body that is not a JSON object is rejected, and the plugin keeps serving.

    When a plugin dies, every later call of the daemon fails until somebody starts the plugin again.
    One bad request must not be enough.
    """
    id = kit.layer()
    for body in (b"{", b"[]", b'"x"', b"\xff\xfe", b'{"ID": 7}', b'{"ID": {"a": 1}}'):
        head = wire.head("/GraphDriver.Get", f"Content-Length: {len(body)}")
        with kit.subject.wire() as daemon:
            if not daemon.ask(head, body).rejection:
                raise Mismatch(f"Get with the body {body!r}", "success", "an error")
    expect("Exists after that", kit.driver.exists(id), True)


@GROUP.case(Need.SOCKET, required=False)
def ids_that_are_paths_are_rejected(kit: Kit) -> None:
    """An ID that would lead out of the home is rejected, and creates nothing there.

    An ID becomes a path, and the plugin is root. Whoever can reach the socket could make it create
    or delete directories anywhere.
    """
    (kit.scratch / "canary").mkdir()
    for id in ("../canary", "a/b", "..", ".", "/etc", "a\0b", "x" * 300):
        with rejected(f"Create of the layer {id[:20]!r}"):
            kit.driver.create(id, "", "", {})
    expect("the directory beside", [one.name for one in kit.scratch.iterdir()], ["canary"])
