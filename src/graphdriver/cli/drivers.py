"""``graphdriver drivers``: show which drivers are installed, and which work here."""

from __future__ import annotations

import argparse
import os
from typing import Final

from graphdriver.cli.command import OK, Command
from graphdriver.cli.known_homes import DATA_ROOT
from graphdriver.serving import process

_EXAMPLES = """\
examples:
  graphdriver drivers
  graphdriver drivers --data-root /mnt/fast/docker
  graphdriver drivers --json | jq -r 'map(select(.works))[0].name'
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root",
        default=DATA_ROOT,
        metavar="DIR",
        help="the daemon's data root, which need not exist yet (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.drivers.choice import survey

    process.expect_root()
    findings = survey(os.path.abspath(arguments.data_root))
    if arguments.json:
        import json

        found = [
            {"name": one.name, "works": one.cls is not None, "rank": one.rank, "reason": one.reason}
            for one in findings
        ]
        print(json.dumps(found, indent=2))
        return OK
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        verdict = "works" if finding.cls else "does not work"
        print(f"{finding.name:<{width}}  {verdict}: {finding.reason}")
    return OK


COMMAND: Final = Command(
    name="drivers",
    summary="show the installed drivers, and which work here",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
)
