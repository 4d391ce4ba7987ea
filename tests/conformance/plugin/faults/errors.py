"""Faults in what is refused, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from graphdriver.driver import Change
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


@caught_by("errors/missing-layer-is-an-error")
class MissingLayersHaveNoChanges(Broken):
    """Changes of a layer that does not exist is an empty list."""

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        return super().changes(id, parent) if self.exists(id) else []


@caught_by("errors/missing-layer-is-an-error-to-put-and-metadata")
class MissingLayersCanBePut(Broken):
    """Put of a layer that does not exist is a success."""

    def put(self, id: str) -> None:
        if self.exists(id):
            super().put(id)

    def get_metadata(self, id: str) -> Mapping[str, str]:
        return {}


@caught_by("errors/comparison-with-a-missing-parent-is-an-error")
class MissingParentsAreNone(Broken):
    """A comparison with a parent that does not exist is one with nothing."""

    def diff_size(self, id: str, parent: str) -> int:
        return super().diff_size(id, parent if parent and self.exists(parent) else "")


class _Errors(Proxy):
    """Changes what a refusal looks like."""

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        return answer if answer.status == 200 else self.changed(request, answer)

    def changed(self, request: Request, answer: Answer) -> Answer:
        raise NotImplementedError


@caught_by("errors/errors-name-the-layer")
class BareErrno(_Errors):
    """Every error is the same three words."""

    def changed(self, request: Request, answer: Answer) -> Answer:
        answer.whole()
        return Answer.of(500, b'{"Err": "no such file"}')


@caught_by("errors/error-of-diff-is-no-200")
class ErrorsOfDiffAreTars(_Errors):
    """A Diff that fails is answered with 200 and the error."""

    def changed(self, request: Request, answer: Answer) -> Answer:
        return Answer.of(200, answer.whole()) if request.call == "Diff" else answer


@caught_by("errors/errors-have-a-text")
class ErrorsAreSilent(_Errors):
    """A refusal is a status, and nothing else."""

    def changed(self, request: Request, answer: Answer) -> Answer:
        answer.whole()
        return Answer.of(500, b"")


@caught_by("errors/errors-are-json")
class ErrorsAreText(_Errors):
    """A refusal is plain text."""

    def changed(self, request: Request, answer: Answer) -> Answer:
        return Answer.of(500, json.loads(answer.whole())["Err"].encode())


@caught_by("errors/malformed-json-is-rejected")
class MalformedIsEmpty(_Errors):
    """What is no JSON is taken for an empty object, and an empty object for fine."""

    def changed(self, request: Request, answer: Answer) -> Answer:
        if answer.status == 400:
            answer.whole()
            return Answer.of(200, b"{}")
        return answer


@caught_by("errors/ids-that-are-paths-are-rejected")
class IdsMayBePaths(_Errors):
    """A Create of any name is a success."""

    def changed(self, request: Request, answer: Answer) -> Answer:
        if request.call == "Create":
            answer.whole()
            return Answer.of(200, b"{}")
        return answer
