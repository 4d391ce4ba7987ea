"""The answers of a running plugin or snapshotter to questions, checked: anybody may have sent them.

docs/operations.md describes them. A member that is missing, or of another type than it should be, is
unknown (None); so a newer plugin can be asked too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from graphdriver.care.layer_tree import LayerNode
from graphdriver.errors import BadAnswerError

_MOST: Final = 1 << 63
"""No number is as large: neither bytes nor seconds."""
_YEAR_10000: Final = 253402300800
"""In seconds since 1970; RFC 3339 can name no later year than 9999."""


@dataclass(frozen=True, slots=True)
class CallCounts:
    """The calls of one kind since the plugin's start.

    Attributes:
        name: the protocol's name.
        count: how many ended.
        errors: how many of them failed, by kind.
        in_flight: how many run now.
        p50: how long half of them took at most, in seconds.
        p99: how long 99 of 100 took at most, in seconds.
    """

    name: str
    count: int
    errors: Mapping[str, int]
    in_flight: int
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Disk:
    """The room on a home's filesystem, in bytes and inodes."""

    size: int
    free: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class Status:
    """What a plugin tells of itself; times in seconds since 1970."""

    version: str | None = None
    engine: str | None = None
    driver: str | None = None
    home: str | None = None
    pid: int | None = None
    started: float | None = None
    options: tuple[str, ...] = ()
    sync: str | None = None
    ready: bool | None = None
    not_ready: str | None = None
    calls: tuple[CallCounts, ...] = ()
    bytes_in: int | None = None
    bytes_out: int | None = None
    layers: int | None = None
    unfinished: int | None = None
    mounts: int | None = None
    references: int | None = None
    disk: Disk | None = None
    last_sync: float | None = None
    driver_status: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call that runs.

    Attributes:
        call: the protocol's name.
        layer: the layer that it is for; None: it is for none.
        snapshot: the key of the snapshot that it is for; likewise.
        parent: the layer's parent, if the call names one.
        seconds: how long it runs.
        bytes: bytes of a layer's tar that it has moved.
        waits_for: the layer whose lock it waits for; None: it does not wait.
        held_by: the call that holds this lock.
        peer: the process that made the call: ``dockerd (1234)``.
    """

    call: str
    layer: str | None
    snapshot: str | None
    parent: str | None
    seconds: float
    bytes: int
    waits_for: str | None
    held_by: str | None
    peer: str | None

    @property
    def subject(self) -> str:
        """What it is for; ``""``: nothing."""
        return self.layer or self.snapshot or ""


def read_status(answer: object) -> Status:
    """Read the answer to the question ``status``.

    Raises:
        BadAnswerError: it is not one.
    """
    status = _Members.of(answer, "status")
    calls = _Members.of(status.member("calls"), "calls") if status.member("calls") else None
    return Status(
        version=status.text("version"),
        engine=status.text("engine"),
        driver=status.text("driver"),
        home=status.text("home"),
        pid=status.count("pid"),
        started=status.time("started"),
        options=tuple(one for one in status.list("options") if isinstance(one, str)),
        sync=status.text("sync"),
        ready=status.flag("ready"),
        not_ready=status.text("not_ready"),
        calls=tuple(_counts(name, _Members.of(calls.member(name), name)) for name in calls.names())
        if calls
        else (),
        bytes_in=status.count("bytes_in"),
        bytes_out=status.count("bytes_out"),
        layers=status.count("layers"),
        unfinished=status.count("unfinished"),
        mounts=status.count("mounts"),
        references=status.count("references"),
        disk=_disk(status.member("disk")),
        last_sync=status.time("last_sync"),
        driver_status=tuple(_pairs(status.list("driver_status"))),
    )


def read_layers(answer: object) -> list[LayerNode]:
    """Read the answer to the question ``layers``.

    Raises:
        BadAnswerError: it is not one.
    """
    found = []
    for one in _listed(answer, "layers"):
        layer = _Members.of(one, "layer")
        if id := layer.text("id"):
            found.append(
                LayerNode(
                    id,
                    layer.text("parent"),
                    own_size=layer.count("size"),
                    inodes=layer.count("inodes"),
                    created=layer.time("created"),
                    applied=layer.time("applied"),
                    gets=layer.count("gets"),
                    last_get=layer.time("last_get"),
                    got_by=_process(layer.member("got_by")) or "",
                    mounted=layer.flag("mounted"),
                    references=layer.count("references"),
                    unfinished=bool(layer.flag("unfinished")),
                )
            )
    return found


def read_calls(answer: object) -> list[RunningCall]:
    """Read the answer to the question ``calls``.

    Raises:
        BadAnswerError: it is not one.
    """
    found = []
    for one in _listed(answer, "calls"):
        call = _Members.of(one, "call")
        waits = call.member("waits_for")
        wait = _Members.of(waits, "waits_for") if waits else None
        found.append(
            RunningCall(
                call=call.text("call") or "",
                layer=call.text("layer"),
                snapshot=call.text("snapshot"),
                parent=call.text("parent"),
                seconds=call.seconds("seconds") or 0.0,
                bytes=call.count("bytes") or 0,
                waits_for=wait.text("layer") if wait else None,
                held_by=wait.text("call") if wait else None,
                peer=_process(call.member("peer")),
            )
        )
    return found


def _counts(name: str, found: _Members) -> CallCounts:
    errors = found.member("errors")
    kinds = _Members.of(errors, "errors") if errors else None
    p50, p99 = found.seconds("p50_ms"), found.seconds("p99_ms")
    return CallCounts(
        name,
        found.count("count") or 0,
        {kind: kinds.count(kind) or 0 for kind in kinds.names()} if kinds else {},
        found.count("in_flight") or 0,
        None if p50 is None else p50 / 1000,
        None if p99 is None else p99 / 1000,
    )


def _disk(answer: object) -> Disk | None:
    if not isinstance(answer, dict):
        return None
    found = _Members(answer)
    return Disk(*(found.count(name) or 0 for name in ("size", "free", "inodes", "inodes_free")))


def disk_of(home: str) -> Disk | None:
    """Return the room on the filesystem of a home, as a plugin tells it; None if it is unknown."""
    from graphdriver.serving.questions import room_of

    return _disk(room_of(home))


def _process(answer: object) -> str | None:
    if not isinstance(answer, dict):
        return None
    found = _Members(answer)
    command, pid = found.text("command") or "process", found.count("pid")
    return command if pid is None else f"{command} ({pid})"


def _pairs(found: list[object]) -> list[tuple[str, str]]:
    return [(str(one[0]), str(one[1])) for one in found if isinstance(one, list) and len(one) == 2]


def _listed(answer: object, what: str) -> list[object]:
    if not isinstance(answer, list):
        raise BadAnswerError(f"the answer to the question {what} is not a list")
    return answer


class _Members:
    """The members of a JSON object; one that is missing or of another type is None."""

    def __init__(self, members: dict[str, object]) -> None:
        self._members = members

    @classmethod
    def of(cls, answer: object, what: str) -> _Members:
        if not isinstance(answer, dict):
            raise BadAnswerError(f"the plugin's answer has no {what}")
        return cls(answer)

    def names(self) -> list[str]:
        return list(self._members)

    def member(self, name: str) -> object:
        return self._members.get(name)

    def text(self, name: str) -> str | None:
        found = self._members.get(name)
        return found if isinstance(found, str) else None

    def count(self, name: str) -> int | None:
        found = self._members.get(name)
        return found if type(found) is int and 0 <= found < _MOST else None

    def seconds(self, name: str) -> float | None:
        found = self._members.get(name)
        if not isinstance(found, int | float) or isinstance(found, bool):
            return None
        return float(found) if 0 <= found < _MOST else None

    def flag(self, name: str) -> bool | None:
        found = self._members.get(name)
        return found if isinstance(found, bool) else None

    def list(self, name: str) -> list[object]:
        found = self._members.get(name)
        return found if isinstance(found, list) else []

    def time(self, name: str) -> float | None:
        """Return a time of RFC 3339 in seconds since 1970, before the year 10000 in UTC."""
        with contextlib.suppress(ValueError, OverflowError):
            found = datetime.fromisoformat(self.text(name) or "").timestamp()
            return found if 0 <= found < _YEAR_10000 else None
        return None
