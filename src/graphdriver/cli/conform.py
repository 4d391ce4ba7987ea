"""``graphdriver conform``: tell whether a plugin is right, ours or anybody's, in any language."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import Command
from graphdriver.cli.exit_codes import FAILED, OK
from graphdriver.cli.extra import needs_grpc
from graphdriver.errors import MalformedRequestError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from graphdriver.conformance.case import Group, K
    from graphdriver.conformance.run import Examined
    from graphdriver.conformance.subject import ExecSubject, SocketSubject

_EXAMPLES = """\
examples:
  graphdriver conform --exec "./my-plugin --listen {socket}"
  graphdriver conform --exec "node plain-folders.js {socket}" --only layers,whiteouts/*
  graphdriver conform --plugin my-plugin --junit report.xml
  graphdriver conform --snapshotter /run/my-snapshotter/my.sock --home /var/lib/my-snapshotter
  graphdriver conform --list

With --exec the plugin is started, killed and started again, which some cases need. Never name a plugin
that a daemon uses: it is told to keep its layers in another home.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--plugin", metavar="NAME", help="a running plugin, found as a daemon finds it"
    )
    what.add_argument(
        "--socket", metavar="PATH", help="a running plugin: its socket, or tcp://HOST:PORT"
    )
    what.add_argument(
        "--exec", metavar="COMMAND", help="a command that serves a plugin at the socket {socket}"
    )
    what.add_argument(
        "--snapshotter", metavar="SOCKET", help="a running snapshotter for containerd: its socket"
    )
    what.add_argument("--list", action="store_true", help="show all cases, and why they are there")
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="where the plugin is to keep layers, an empty directory: which filesystem is examined "
        "(default: a new one below TMPDIR); with --snapshotter, where it keeps its snapshots",
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="CASES",
        help="groups and cases, by comma; * and ? stand for any, ! before one leaves it out",
    )
    parser.add_argument("--junit", metavar="FILE", help="write the results there, as JUnit's XML")
    parser.add_argument("--json", metavar="FILE", help="write the results there, as JSON")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.conformance.cases import GROUPS

    if arguments.list:
        _list(arguments.only)
        return OK
    if os.geteuid() != 0:
        raise UnsupportedError(
            "layers hold owners and devices, which root alone can make", hint="run it as root"
        )
    # Ended in good order: a plugin that was started here must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(
        prefix="graphdriver-conform-", ignore_cleanup_errors=True
    ) as folder:
        if not arguments.snapshotter:
            return _examine(arguments, GROUPS, lambda: _subject(arguments, Path(folder)))
        try:
            from graphdriver.conformance.snapshots.cases import GROUPS as SNAPSHOT_GROUPS
            from graphdriver.conformance.snapshots.kit import SnapshotterSubject
        except ImportError as error:
            raise needs_grpc(error) from error
        if not arguments.home:
            raise MalformedRequestError(
                "--snapshotter needs --home, outside of which nothing is mounted or written to",
                hint="name the directory where the snapshotter keeps its snapshots",
            )
        address, home = os.path.abspath(arguments.snapshotter), os.path.abspath(arguments.home)
        return _examine(
            arguments, SNAPSHOT_GROUPS, lambda: SnapshotterSubject(address, Path(folder), home)
        )


def _list(only: str) -> None:
    from graphdriver.conformance.cases import GROUPS
    from graphdriver.conformance.run import chosen

    every: list[Group[Any]] = list(GROUPS)
    with contextlib.suppress(ImportError):  # the extra for containerd is not installed
        from graphdriver.conformance.snapshots.cases import GROUPS as SNAPSHOT_GROUPS

        every += SNAPSHOT_GROUPS
    for case in chosen(every, only):
        optional = "" if case.required else " (optional)"
        print(f"{case.id}{optional}\n  {case.checks}\n  Why: {case.why.text}")


def _examine(
    arguments: argparse.Namespace,
    groups: Sequence[Group[K]],
    begin: Callable[[], AbstractContextManager[Examined[K]]],
) -> int:
    from graphdriver.conformance.files import as_json, junit
    from graphdriver.conformance.report import summary, watcher
    from graphdriver.conformance.run import chosen, run

    cases = chosen(groups, arguments.only)
    with begin() as subject:
        results = run(cases, subject, watcher(sys.stdout, groups, cases))
    print("\n" + summary(results))
    for name, write in ((arguments.junit, junit), (arguments.json, as_json)):
        if name:
            Path(name).write_text(write(results), encoding="utf-8")
    return FAILED if any(result.is_bad for result in results) else OK


def _subject(arguments: argparse.Namespace, folder: Path) -> ExecSubject | SocketSubject:
    from graphdriver.conformance.subject import ExecSubject, SocketSubject
    from graphdriver.plugin.discovery import Address, find

    home = arguments.home or ""
    if home:
        os.makedirs(home, mode=0o710, exist_ok=True)
        if os.listdir(home):
            raise MalformedRequestError(
                f"--home {home} is not empty",
                hint="layers are made and removed there: name a new folder",
            )
        home = os.path.abspath(home)
    if arguments.exec:
        if "{socket}" not in arguments.exec:
            raise MalformedRequestError(
                "--exec does not say where the plugin is to listen",
                hint="put {socket} where its command takes the path of its socket",
            )
        return ExecSubject(arguments.exec, folder, home)
    address = Address.parse(arguments.socket) if arguments.socket else find(arguments.plugin)
    return SocketSubject(address, folder, home or tempfile.mkdtemp(dir=folder, prefix="home-"))


COMMAND: Final = Command(
    name="conform",
    summary="tell whether a plugin is right, in whatever language it is written",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
)
