"""The first calls of a daemon, and what all responses have in common."""

from __future__ import annotations

import json
import time

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.plugin import references, wire
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group(
    "activation", "how a daemon starts, and what all responses have in common"
)

_IDLE = 6.5
"""Seconds without a call; servers that close idle connections often do so after five."""


@GROUP.case(Need.SOCKET, see=references.HANDSHAKE)
def implements_graphdriver(kit: Kit) -> None:
    """Activate, with an empty body, returns what the plugin implements: GraphDriver.

    The daemon sends Activate first. It ignores a plugin whose response does not list GraphDriver.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.head("/Plugin.Activate", "Content-Length: 0"))
    expect("the status of Activate", answer.status, 200)
    expect("Implements", answer.members.get("Implements"), ["GraphDriver"])


@GROUP.case(Need.SOCKET, see=references.HANDSHAKE)
def capabilities_are_a_map(kit: Kit) -> None:
    """Capabilities returns a map, or a status of 404, which means all defaults.

    The daemon sends Capabilities right after Init. 404 means all defaults; any other error, or a
    response that it cannot read, ends its start.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Capabilities"))
    if answer.status == 404:
        return
    expect("the status of Capabilities", answer.status, 200)
    found = answer.members.get("Capabilities")
    if not isinstance(found, dict):
        raise Mismatch("Capabilities", found, "a map")
    exact = found.get("ReproducesExactDiffs", False)
    expect("the type of ReproducesExactDiffs", type(exact), bool)


@GROUP.case(Need.SOCKET, see=references.HANDSHAKE)
def status_is_pairs(kit: Kit) -> None:
    """Status returns a list of pairs of strings, for docker info.

    The daemon shows the pairs in docker info. If one of them is anything but two strings, it cannot
    read the response, and shows none.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Status"))
    expect("the status of Status", answer.status, 200)
    pairs = answer.members.get("Status") or []
    if not isinstance(pairs, list):
        raise Mismatch("Status", pairs, "a list")
    for pair in pairs:
        is_pair = isinstance(pair, list) and [type(text) for text in pair] == [str, str]
        expect(f"whether {pair!r} is a pair of text", is_pair, True)


@GROUP.case(Need.SOCKET)
def empty_host_is_served(kit: Kit) -> None:
    """A call with an empty Host header is served.

    Docker 20.10.24 as Debian builds it sends an empty Host header with every call. A server that
    rejects it is no plugin for this daemon.
    """
    call = wire.call("Exists", ID=kit.id()).replace(b"Host: plugin.moby.localhost", b"Host:")
    with kit.subject.wire() as daemon:
        expect("the status of a call without a host", daemon.ask(call).status, 200)


@GROUP.case(Need.SOCKET)
def empty_members_may_be_left_out(kit: Kit) -> None:
    """Create with an ID alone makes a layer without parent and options; null means empty.

    Daemons leave empty members out of their JSON, and send null for empty lists and maps.
    """
    first, second = kit.id(), kit.id()
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Create", ID=first))
        expect("the error of a Create with an ID alone", answer.rejection, "")
        null = wire.call("Create", ID=second, Parent=first, MountLabel=None, StorageOpt=None)
        expect("the error of a Create with null for empty", daemon.ask(null).rejection, "")
    expect("Exists of both", [kit.driver.exists(id) for id in (first, second)], [True, True])


@GROUP.case(Need.SOCKET, required=False)
def member_names_in_any_case(kit: Kit) -> None:
    """Member names are accepted in any letter case.

    Go's JSON decoder, which the first plugins used, accepts member names in any letter case.
    """
    id = kit.layer()
    body = json.dumps({"id": id}).encode()
    head = wire.head("/GraphDriver.Exists", f"Content-Length: {len(body)}")
    with kit.subject.wire() as daemon:
        answer = daemon.ask(head, body)
    expect("Exists, with the member's name in lower case", answer.members.get("Exists"), True)


@GROUP.case(Need.SOCKET)
def unknown_call_is_rejected(kit: Kit) -> None:
    """An unknown call is rejected.

    To a daemon, 404 for Capabilities means 'all defaults', and 200 for a call that the plugin does
    not know means success.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Frobnicate", ID=kit.id()))
    if not answer.rejection:
        raise Mismatch(
            "a call that the plugin does not know", f"success: {answer.body!r}", "404, or Err"
        )


@GROUP.case(Need.SOCKET, see=references.HANDSHAKE, required=False)
def responses_have_a_content_type(kit: Kit) -> None:
    """Responses have the content type application/vnd.docker.plugins.v1.1+json, or another of v1.

    Docker's plugin API defines this type. Other clients, and proxies between daemon and plugin, may
    look at it.
    """
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Exists", ID=kit.id()))
    type = answer.headers.get("content-type", "nothing")
    if not (type.startswith("application/vnd.docker.plugins.v1") and "json" in type):
        raise Mismatch("Content-Type", type, "application/vnd.docker.plugins.v1.1+json")


@GROUP.case(Need.SOCKET)
def connections_are_kept(kit: Kit) -> None:
    """One connection serves many calls, one after the other, rejected ones among them.

    A daemon keeps two or three connections and uses them for all its calls. It loses a call on a
    connection that the plugin closes without notice.
    """
    id = kit.layer()
    with kit.subject.wire() as daemon:
        for _ in range(20):
            expect("Exists", daemon.ask(wire.call("Exists", ID=id)).members, {"Exists": True})
            refused = daemon.ask(wire.call("Get", ID=kit.id())).rejection
            expect("whether Get of a missing layer is rejected", bool(refused), True)


@GROUP.case(Need.SOCKET)
def idle_connections_are_kept(kit: Kit) -> None:
    """A connection that was idle for some seconds still serves a call.

    A call that a daemon sends while the plugin closes an idle connection is lost: the daemon
    repeats it with an empty body. Many HTTP libraries close idle connections after five seconds.
    """
    id = kit.layer()
    with kit.subject.wire() as daemon:
        daemon.ask(wire.call("Exists", ID=id))
        time.sleep(_IDLE)
        try:
            answer = daemon.ask(wire.call("Exists", ID=id))
        except (OSError, Mismatch) as error:
            saw = f"the plugin had closed it: {error}"
            raise Mismatch(
                f"a connection after {_IDLE} s without a call", saw, "an answer"
            ) from error
    expect("Exists", answer.members, {"Exists": True})
