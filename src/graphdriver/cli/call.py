"""``graphdriver call``: make one call to a running plugin of any author, as a daemon does."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from graphdriver.cli.command import OK, Command, key_value
from graphdriver.errors import MalformedRequestError

if TYPE_CHECKING:
    from graphdriver.docker.codec import Message
    from graphdriver.driver import ClosableStream

    M = TypeVar("M", bound=Message)

_PIECE: Final = 1 << 20  # bytes of a Diff that are read at a time

_EXAMPLES = """\
examples:
  graphdriver call --plugin py-vfs Status
  graphdriver call --plugin py-vfs Init Home=/var/lib/docker/py-vfs Opt=sync=none
  graphdriver call --plugin py-vfs Create ID=base
  graphdriver call --plugin py-vfs ApplyDiff ID=base < layer.tar
  graphdriver call --plugin py-vfs Create ID=top Parent=base Opt=size=10G
  graphdriver call --plugin py-vfs Diff ID=top Parent=base > top.tar
  graphdriver call --socket /run/docker/plugins/py-vfs.sock Get ID=top
"""

_NOTES = """\
The response is printed as JSON. The tar of a Diff goes to standard output, and that of an ApplyDiff
comes from standard input. Each Get needs a Put.

A plugin of this project refuses Init, Create, CreateReadWrite, Put, Remove, ApplyDiff and Cleanup while
the daemon that uses it runs: they would unmount its containers, or take layers away from it. If a
plugin cannot know whether the daemon runs (over TCP, for example), it refuses them too. With --force
the call is made as a daemon would make it.
"""


_KEYS: Final = {
    "id": "ID",
    "parent": "Parent",
    "mount_label": "MountLabel",
    "storage_opt": "Opt",
    "home": "Home",
    "options": "Opt",
}
"""The members of requests that can be given, each with its key. ID maps cannot."""


def _request_of(kind: type[M], words: list[str]) -> M:
    """Make a request of ``KEY=VALUE`` words; keys in any letter case, ``Opt`` any number of times.

    Values are not checked, so that wrong requests can be sent to a plugin.

    Raises:
        MalformedRequestError: a key is missing or not known to the call.
    """
    fields = [one for one in dataclasses.fields(kind) if one.name in _KEYS]
    known = {_KEYS[one.name].lower(): one.name for one in fields}
    values: dict[str, str] = {}
    options: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        if key.lower() not in known:
            keys = ", ".join(_KEYS[one.name] for one in fields)
            raise MalformedRequestError(
                f"this call takes no {key}=", hint=f"it takes {keys or 'nothing'}"
            )
        if key.lower() == "opt":
            options.append(value)
        else:
            values[known[key.lower()]] = value
    for one in fields:
        if one.name not in values and one.default is one.default_factory is dataclasses.MISSING:
            raise MalformedRequestError(f"{_KEYS[one.name]}= is missing")
    found: dict[str, object] = dict(values)
    if "opt" in known:
        as_map = known["opt"] == "storage_opt"
        found[known["opt"]] = dict(map(_halves, options)) if as_map else options
    return kind(**found)


def _halves(option: str) -> tuple[str, str]:
    key, _, value = option.partition("=")
    return key, value


def _write(stream: ClosableStream) -> None:
    try:
        while piece := stream.read(_PIECE):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    finally:
        stream.close()


class _Names:
    """The names of the calls; their table is imported only when it is needed."""

    def __iter__(self) -> Iterator[str]:
        from graphdriver.docker.protocol import CALLS

        return (call.name for call in CALLS)


def _configure(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--plugin", metavar="NAME", help="a running plugin, found as a daemon finds it"
    )
    where.add_argument(
        "--socket", metavar="PATH", help="a running plugin: its socket, or tcp://HOST:PORT"
    )
    parser.add_argument(
        "--force", action="store_true", help="make the call even if it disturbs a running daemon"
    )
    parser.add_argument("method", choices=_Names(), metavar="METHOD", help="%(choices)s")
    parser.add_argument(
        "members",
        nargs="*",
        default=[],  # without it argparse reports these as required when METHOD is missing
        type=key_value,
        metavar="KEY=VALUE",
        help="ID=, Parent=, MountLabel=, Home=; Opt=KEY=VALUE for options, any number of times",
    )


def _run(arguments: argparse.Namespace) -> int:
    import json

    from graphdriver.docker.address.discovery import find
    from graphdriver.docker.client import Client
    from graphdriver.docker.codec import encode
    from graphdriver.docker.messages import ActivateResponse, Nothing
    from graphdriver.docker.protocol import ACTIVATE, CALLS, DIFF

    call = next(one for one in CALLS if one.name == arguments.method)
    request = _request_of(call.request, arguments.members)
    address = arguments.socket or find(arguments.plugin)
    with Client(address, by_hand=not arguments.force) as client:
        if call is ACTIVATE:  # the only call that is not one of a driver
            answer: Any = ActivateResponse(client.activate())
        else:
            answer = call.make(client, request, sys.stdin.buffer)
        if call is DIFF:
            _write(answer)
        else:
            print(json.dumps(json.loads(encode(answer or Nothing()))))
    return OK


COMMAND: Final = Command(
    name="call",
    summary="make one call to a running plugin",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
