"""``graphdriver conform``: check a plugin, or a snapshotter, written in any language."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import FAILED, OK, Command, needs_grpc
from graphdriver.errors import MalformedRequestError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from graphdriver.conformance.kit.case import Group, K
    from graphdriver.conformance.kit.run import Subject
    from graphdriver.conformance.plugin.subject import ExecSubject, SocketSubject

_EXAMPLES = """\
examples:
  graphdriver conform --exec "./my-plugin --listen {socket}"
  graphdriver conform --exec "node plain-folders.js {socket}" --only layers,whiteouts/*
  graphdriver conform --plugin my-plugin --maxfail 0 --junit report.xml
  graphdriver conform --snapshotter /run/my-snapshotter/my.sock --home /var/lib/my-snapshotter
  graphdriver conform --list
"""

_MOST_FAILURES: Final = 10

_NOTES = """\
The cases to solve first are run first, then the other required ones, then the optional ones.

With --exec the plugin is started, killed and started again, which some cases need. Never name a plugin
that a daemon uses: the kit sends it Init with another home.
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
    what.add_argument("--list", action="store_true", help="show all cases and their reasons")
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="an empty directory, on the filesystem to check, for the plugin's layers (default: a new "
        "one below TMPDIR); with --snapshotter, the directory where it keeps its snapshots",
    )
    parser.add_argument(
        "--content",
        metavar="SOCKET",
        help="with --snapshotter: check its diff service, too; the kit serves a content store at "
        "SOCKET, where the snapshotter must expect containerd's (--containerd-socket)",
    )
    parser.add_argument(
        "--rebase",
        action="store_true",
        help="with --content: check layers that get their parents with Commit, too, which containerd "
        "makes if the snapshotter's configuration has the capability rebase",
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="CASES",
        help="groups and cases, separated by commas; * and ? are wildcards, !CASE leaves one out",
    )
    parser.add_argument(
        "--maxfail",
        type=_count,
        metavar="N",
        help=f"stop when N required cases have failed; 0 runs all (default: {_MOST_FAILURES})",
    )
    parser.add_argument("--junit", metavar="FILE", help="write the results to FILE, as JUnit XML")
    parser.add_argument(
        "--json", metavar="FILE", help="write the results to FILE, as JSON; with --list, the cases"
    )
    parser.add_argument(
        "--plugin-log",
        metavar="FILE",
        help="with --exec: append the plugin's output to FILE; a failure shows its last lines",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of cases, 0 or more")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for option in ("junit", "home", "plugin_log", "maxfail"):
            if getattr(arguments, option) is not None:
                name = option.replace("_", "-")
                raise MalformedRequestError(f"--{name} has no effect with --list: no case runs")
        _list(arguments.only, arguments.json)
        return OK
    if arguments.content and not arguments.snapshotter:
        raise MalformedRequestError("--content needs --snapshotter: plugins have no diff service")
    if arguments.rebase and not arguments.content:
        raise MalformedRequestError("--rebase needs --content: the diff service fills such layers")
    if arguments.plugin_log and not arguments.exec:
        raise MalformedRequestError(
            "--plugin-log needs --exec: the kit reads only the output of a plugin that it started"
        )
    if os.geteuid() != 0:
        raise UnsupportedError(
            "layers hold owners and devices, which only root can make", hint="run it as root"
        )
    # SIGTERM ends it as Ctrl-C does: it stops the plugin that it started, and unmounts.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    from graphdriver.conformance.kit.scratch import scratch_directory

    with scratch_directory(prefix="graphdriver-conform-") as directory:
        if arguments.snapshotter:
            return _examine_a_snapshotter(arguments, directory)
        return _examine_a_plugin(arguments, directory)


def _list(only: str, file: str | None) -> None:
    from graphdriver.conformance.kit.report import listed
    from graphdriver.conformance.kit.run import chosen
    from graphdriver.conformance.plugin.cases import GROUPS

    every: list[Group[Any]] = list(GROUPS)
    with contextlib.suppress(ImportError):  # the extra for containerd is not installed
        from graphdriver.conformance.snapshotter.cases import GROUPS as SNAPSHOT_GROUPS

        every += SNAPSHOT_GROUPS
    cases = chosen(every, only)
    if file:
        Path(file).write_text(listed(cases), encoding="utf-8")
        return
    for case in cases:
        optional = "" if case.required else " (optional)"
        print(f"{case.id}{optional}\n  {case.checks}\n  Why: {case.why}")


def _examine_a_snapshotter(arguments: argparse.Namespace, directory: Path) -> int:
    try:
        from graphdriver.conformance.snapshotter.cases import FIRST, GROUPS
        from graphdriver.conformance.snapshotter.subject import SocketSubject
    except ImportError as error:
        raise needs_grpc(error) from error
    if not arguments.home:
        raise MalformedRequestError(
            "--snapshotter needs --home, outside of which nothing is mounted or written to",
            hint="name the directory where the snapshotter keeps its snapshots",
        )
    address, home = os.path.abspath(arguments.snapshotter), os.path.abspath(arguments.home)
    content = os.path.abspath(arguments.content) if arguments.content else ""

    def subject() -> SocketSubject:
        return SocketSubject(address, directory, home, content=content, rebase=arguments.rebase)

    return _examine(arguments, GROUPS, FIRST, subject)


def _examine_a_plugin(arguments: argparse.Namespace, directory: Path) -> int:
    from graphdriver.conformance.plugin.cases import FIRST, GROUPS

    with _home(arguments.home, directory) as home:
        return _examine(arguments, GROUPS, FIRST, lambda: _subject(arguments, directory, home))


@contextlib.contextmanager
def _home(given: str | None, directory: Path) -> Iterator[str]:
    """Provide the plugin's home for the length of a ``with`` block, and restore it afterwards."""
    from graphdriver.conformance.kit.scratch import emptied, scratch_directory

    if not given:
        with scratch_directory(directory, "home-") as new:
            yield str(new)
        return
    home = os.path.realpath(given)
    is_new = not os.path.isdir(home)
    try:
        os.makedirs(home, mode=0o710, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise MalformedRequestError(
            f"--home {given}: it is not a directory, or below something that is not",
            hint="name a new directory",
        ) from error
    if os.listdir(home):
        raise MalformedRequestError(
            f"--home {given} is not empty",
            hint="the kit makes and removes layers there: name a new directory",
        )
    with emptied(home):
        yield home
    if is_new:
        with contextlib.suppress(OSError):  # the plugin may still write there
            os.rmdir(home)


def _examine(
    arguments: argparse.Namespace,
    groups: Sequence[Group[K]],
    first: Sequence[str],
    begin: Callable[[], AbstractContextManager[Subject[K]]],
) -> int:
    from graphdriver.conformance.kit.report import as_json, junit, summary, watcher
    from graphdriver.conformance.kit.run import Result, chosen, in_order, run

    cases = in_order(chosen(groups, arguments.only), first)
    most_failures = _MOST_FAILURES if arguments.maxfail is None else arguments.maxfail
    results: list[Result[K]] = []
    with contextlib.ExitStack() as held:
        # Opened before the run, which takes minutes: a file that cannot be written ends it at once.
        files = [
            (held.enter_context(open(name, "w", encoding="utf-8")), write)
            for name, write in ((arguments.junit, junit), (arguments.json, as_json))
            if name
        ]
        try:
            with begin() as subject:
                watching = watcher(sys.stdout, groups, cases)
                for result in run(cases, subject, watching, most_failures):
                    results.append(result)
        except KeyboardInterrupt:
            left = len(cases) - len(results)
            print(f"\ninterrupted: {left} of {len(cases)} cases did not run", file=sys.stderr)
            raise
        finally:
            if results:
                print("\n" + summary(results))
            for file, write in files:
                file.write(write(results))
    if left := len(cases) - len(results):
        print(
            f"stopped after {most_failures} failures: {left} of {len(cases)} cases did not run; "
            "--maxfail 0 runs all",
            file=sys.stderr,
        )
    return FAILED if any(result.is_bad for result in results) else OK


def _subject(
    arguments: argparse.Namespace, directory: Path, home: str
) -> ExecSubject | SocketSubject:
    from graphdriver.conformance.plugin.subject import ExecSubject, SocketSubject
    from graphdriver.docker.address.discovery import address_of, find

    if arguments.exec:
        if "{socket}" not in arguments.exec:
            raise MalformedRequestError(
                "--exec does not hold {socket}, the socket where the plugin must listen",
                hint="write {socket} where the command takes the path of the socket",
            )
        log = Path(arguments.plugin_log).absolute() if arguments.plugin_log else None
        return ExecSubject(arguments.exec, directory, home, log)
    address = address_of(arguments.socket) if arguments.socket else find(arguments.plugin)
    return SocketSubject(address, directory, home)


COMMAND: Final = Command(
    name="conform",
    summary="test a plugin or a snapshotter, written in any language",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
