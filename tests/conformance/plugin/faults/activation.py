"""Faults in how a plugin begins, and in what all its answers have in common."""

from __future__ import annotations

import json

from tests.conformance.plugin.faults.fault import caught_by
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


@caught_by("activation/implements-graphdriver")
class ImplementsVolumes(Proxy):
    """Activate tells of another kind of plugin."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Activate":
            request.whole()
            return Answer.of(200, b'{"Implements": ["VolumeDriver"]}')
        return super().exchange(request)


@caught_by("activation/capabilities-are-a-map")
class CapabilitiesAreAList(Proxy):
    """Capabilities answers a list of names."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Capabilities":
            request.whole()
            return Answer.of(200, b'{"Capabilities": ["ReproducesExactDiffs"]}')
        return super().exchange(request)


@caught_by("activation/status-is-pairs")
class StatusIsAMap(Proxy):
    """Status answers a map."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Status":
            request.whole()
            return Answer.of(200, b'{"Status": {"Sync": "layer"}}')
        return super().exchange(request)


@caught_by("activation/empty-host-is-served")
class InsistsOnAHost(Proxy):
    """An empty Host is a bad request, as many servers have it."""

    def exchange(self, request: Request) -> Answer:
        if not request.headers.get("Host"):
            request.whole()
            return Answer.of(400, b'{"Err": "bad request: invalid Host"}')
        return super().exchange(request)


@caught_by("activation/empty-members-may-be-left-out")
class NeedsEveryMember(Proxy):
    """A Create without a Parent is malformed."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Create" and "Parent" not in json.loads(request.whole() or b"{}"):
            return Answer.of(400, b'{"Err": "Parent is missing"}')
        return super().exchange(request)


@caught_by("activation/member-names-in-any-case")
class NamesInOneCase(Proxy):
    """Members that are not written as Docker writes them are not seen."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Exists" and "ID" not in json.loads(request.whole() or b"{}"):
            return Answer.of(400, b'{"Err": "ID is missing"}')
        return super().exchange(request)


@caught_by("activation/unknown-call-is-rejected")
class UnknownCallsSucceed(Proxy):
    """What the plugin does not know it answers with an empty object."""

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        if answer.status == 404:
            answer.whole()
            return Answer.of(200, b"{}")
        return answer


@caught_by("activation/responses-have-a-content-type")
class AnswersAreText(Proxy):
    """Answers are called plain text."""

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        answer.headers["Content-Type"] = "text/plain"
        return answer


@caught_by("activation/connections-are-kept")
class TenCallsForAConnection(Proxy):
    """The connection is closed behind its tenth answer, without a word."""

    _count = 0

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        self._count += 1
        answer.ends = self._count == 10
        return answer


@caught_by("activation/idle-connections-are-kept")
class IdleConnectionsAreClosed(Proxy):
    """A connection without a call for a while is closed, as Node.js does after five seconds."""

    idle = 0.5
