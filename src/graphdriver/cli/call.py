"""``graphdriver call``: one call to a running plugin, ours or anybody's, as a daemon makes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import Command, key_value
from graphdriver.errors import MalformedRequestError

if TYPE_CHECKING:
    from graphdriver.docker.client import Client

_PIECE: Final = 1 << 20

_EXAMPLES = """\
examples:
  graphdriver call --plugin py-vfs Status
  graphdriver call --plugin py-vfs Init Home=/var/lib/docker/py-vfs Opt=sync=none
  graphdriver call --plugin py-vfs Create ID=base
  graphdriver call --plugin py-vfs ApplyDiff ID=base < layer.tar
  graphdriver call --plugin py-vfs Create ID=top Parent=base Opt=size=10G
  graphdriver call --plugin py-vfs Diff ID=top Parent=base > top.tar
  graphdriver call --socket /run/docker/plugins/py-vfs.sock Get ID=top

The answer is printed as JSON, a Diff as it comes. Mind that a Get must be Put.

A plugin of this project refuses Init, Create, CreateReadWrite, Put, Remove, ApplyDiff and Cleanup while
the daemon that uses it runs: they would unmount its containers, or take layers away from it. Where a
plugin cannot tell whether the daemon runs (over TCP, for example), it refuses them too. With --force
the call is made as if by a daemon.
"""


class _Arguments:
    """``KEY=VALUE`` words; keys in any letter case, ``Opt`` any number of times.

    Raises:
        MalformedRequestError: a key is missing or not known to the call.
    """

    def __init__(self, words: list[str], required: str, optional: str) -> None:
        self.opts: list[str] = []
        self._values: dict[str, str] = {}
        known = [*required.split(), *optional.split()]
        for word in words:
            key, _, value = word.partition("=")
            if key.lower() not in [one.lower() for one in known]:
                raise MalformedRequestError(
                    f"this call takes no {key}=", hint=f"it takes {', '.join(known) or 'nothing'}"
                )
            if key.lower() == "opt":
                self.opts.append(value)
            else:
                self._values[key.lower()] = value
        for key in required.split():
            if key.lower() not in self._values:
                raise MalformedRequestError(f"{key}= is missing")

    def __getitem__(self, key: str) -> str:
        return self._values.get(key.lower(), "")


def _create(client: Client, given: _Arguments) -> object:
    client.create(given["ID"], given["Parent"], given["MountLabel"], _options(given))
    return {}


def _create_read_write(client: Client, given: _Arguments) -> object:
    client.create_read_write(given["ID"], given["Parent"], given["MountLabel"], _options(given))
    return {}


def _options(given: _Arguments) -> dict[str, str]:
    pairs = (one.partition("=") for one in given.opts)
    return {key: value for key, _, value in pairs}


def _diff(client: Client, given: _Arguments) -> object:
    stream = client.diff(given["ID"], given["Parent"])
    try:
        while piece := stream.read(_PIECE):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    finally:
        stream.close()
    return None


def _changes(client: Client, given: _Arguments) -> object:
    found = client.changes(given["ID"], given["Parent"])
    return {"Changes": [{"Path": one.path, "Kind": int(one.kind)} for one in found]}


def _init(client: Client, given: _Arguments) -> object:
    client.init(given["Home"], given.opts, [], [])
    return {}


def _put(client: Client, given: _Arguments) -> object:
    client.put(given["ID"])
    return {}


def _remove(client: Client, given: _Arguments) -> object:
    client.remove(given["ID"])
    return {}


def _cleanup(client: Client, _: _Arguments) -> object:
    client.cleanup()
    return {}


_Row = tuple[str, str, Callable[["Client", _Arguments], object]]

_CALLS: Final[dict[str, _Row]] = {
    "Activate": ("", "", lambda client, _: {"Implements": list(client.activate())}),
    "Init": ("Home", "Opt", _init),
    "Capabilities": (
        "",
        "",
        lambda client, _: {
            "Capabilities": {"ReproducesExactDiffs": client.capabilities().reproduces_exact_diffs}
        },
    ),
    "Status": ("", "", lambda client, _: {"Status": [list(pair) for pair in client.status()]}),
    "Create": ("ID", "Parent MountLabel Opt", _create),
    "CreateReadWrite": ("ID", "Parent MountLabel Opt", _create_read_write),
    "Get": (
        "ID",
        "MountLabel",
        lambda client, given: {"Dir": client.get(given["ID"], given["MountLabel"])},
    ),
    "Put": ("ID", "", _put),
    "Remove": ("ID", "", _remove),
    "Exists": ("ID", "", lambda client, given: {"Exists": client.exists(given["ID"])}),
    "GetMetadata": (
        "ID",
        "",
        lambda client, given: {"Metadata": dict(client.get_metadata(given["ID"]))},
    ),
    "Changes": ("ID", "Parent", _changes),
    "DiffSize": (
        "ID",
        "Parent",
        lambda client, given: {"Size": client.diff_size(given["ID"], given["Parent"])},
    ),
    "Diff": ("ID", "Parent", _diff),
    "ApplyDiff": (
        "ID",
        "Parent",
        lambda client, given: {
            "Size": client.apply_diff(given["ID"], given["Parent"], sys.stdin.buffer)
        },
    ),
    "Cleanup": ("", "", _cleanup),
}
"""What each call takes, what it may take, and how it is made."""


def _configure(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--plugin", metavar="NAME", help="find it by name, as a daemon does")
    where.add_argument("--socket", metavar="PATH", help="its socket, or tcp://HOST:PORT")
    parser.add_argument(
        "--force", action="store_true", help="make the call even if it disturbs a daemon that runs"
    )
    parser.add_argument("method", choices=sorted(_CALLS), metavar="METHOD", help=" ".join(_CALLS))
    parser.add_argument(
        "members",
        nargs="*",
        default=[],  # without it argparse calls these required where METHOD is missing
        type=key_value,
        metavar="KEY=VALUE",
        help="ID=, Parent=, MountLabel=, Home=; Opt=KEY=VALUE for options, any number of times",
    )


def _run(arguments: argparse.Namespace) -> int:
    import json

    from graphdriver.docker.address.discovery import find
    from graphdriver.docker.client import Client

    required, optional, make = _CALLS[arguments.method]
    given = _Arguments(arguments.members, required, optional)
    address = arguments.socket or find(arguments.plugin)
    with Client(address, by_hand=not arguments.force) as client:
        answer = make(client, given)
    if answer is not None:
        print(json.dumps(answer))
    return 0


COMMAND: Final = Command(
    name="call",
    summary="make one call to a running plugin",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
)
