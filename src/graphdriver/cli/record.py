"""``graphdriver record``: record the calls between a daemon and a plugin."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from typing import Final

from graphdriver.cli.command import OK, Command
from graphdriver.errors import UnsupportedError

_EXAMPLES = """\
examples:
  graphdriver record --plugin my-plugin taped
  dockerd --experimental -s taped
"""

_NOTES = """\
The recorder listens as the plugin "taped". For each of the daemon's connections it makes one to
my-plugin, passes on every byte unchanged, and writes a line for each call. Stop it with Ctrl-C. A
daemon keeps separate images for each name of a plugin, so give it a data root of its own.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--plugin", metavar="NAME", help="a running plugin, found as a daemon finds it"
    )
    what.add_argument("--socket", metavar="PATH", help="a running plugin: its socket")
    parser.add_argument(
        "listen", metavar="NAME|PATH", help="the name to listen under, or a socket's absolute path"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="append to FILE (default: standard output)"
    )


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.docker.address.discovery import address_of, find
    from graphdriver.docker.address.listeners import UnixListener
    from graphdriver.docker.recorder import Recorder

    plugin = address_of(arguments.socket) if arguments.socket else find(arguments.plugin)
    if not plugin.path:
        raise UnsupportedError(
            f"the plugin listens at {plugin}, and only unix sockets are recorded",
            hint="start it on a unix socket to record it",
        )
    with contextlib.ExitStack() as held:
        out = sys.stdout
        if arguments.output:
            out = held.enter_context(open(arguments.output, "a", encoding="utf-8"))
        listener = held.enter_context(contextlib.closing(UnixListener(arguments.listen)))
        recorder = Recorder(listener, plugin, out)
        # In another thread: a handler runs in the main one, which may hold the lock that stop needs.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: threading.Thread(target=recorder.stop).start())
        print(f"recording {plugin} at {listener.address}; stop with Ctrl-C", file=sys.stderr)
        sys.stderr.flush()
        recorder.run()
    return OK


COMMAND: Final = Command(
    name="record",
    summary="record the calls between a daemon and a plugin",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
