"""``graphdriver package``: make a managed plugin of an installed driver."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from graphdriver.cli.command import OK, Command
from graphdriver.cli.quantities import size

_EXAMPLES = """\
examples:
  graphdriver package overlay2 --name example/overlay2:1
  docker plugin create example/overlay2:1 example-overlay2
  docker plugin enable example/overlay2:1
  dockerd --experimental -s example/overlay2:1
"""

_NOTES = """\
The directory holds config.json and rootfs/: the Python interpreter that runs this command, the driver's
packages, and the shared libraries that both need, as they are on this machine. Nothing is downloaded.

The home is DATA-ROOT/plugins/ID/propagated-mount/ORG/NAME:TAG. It stays at "docker plugin upgrade", and
"docker plugin rm" removes it with all layers.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("driver", metavar="DRIVER", help="an installed driver")
    parser.add_argument(
        "--name", required=True, metavar="ORG/NAME:TAG", help="the plugin's name in Docker"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="the directory to make (default: ORG-NAME, in this one)"
    )


def _run(arguments: argparse.Namespace) -> int:
    import shlex

    from graphdriver.docker.managed.bundle import expect_reference, make_bundle
    from graphdriver.docker.managed.distributions import absent
    from graphdriver.drivers.loading import distribution_of, load
    from graphdriver.errors import UnsupportedError
    from graphdriver.serving.privileges import kept_capabilities, needs_of

    name = expect_reference(arguments.name)
    cls = load(arguments.driver)
    if (needs := needs_of(cls)) and needs.lasting_programs:
        raise UnsupportedError(
            f"{arguments.driver} mounts layers with programs, which end with a managed plugin's"
            " container: a restart of the plugin would end the mounts of running containers",
            hint="serve it outside of Docker: graphdriver serve",
        )
    output = arguments.output or name.rpartition(":")[0].replace("/", "-").replace(":", "-")
    distribution = distribution_of(arguments.driver)
    count = make_bundle(arguments.driver, distribution, kept_capabilities(cls), output)
    for package in absent(distribution, arguments.driver):
        print(
            f"without {package}, which makes the driver faster: pip install"
            f" '{distribution}[{arguments.driver}]', and package it again",
            file=sys.stderr,
        )
    print(f"{output}: {size(count)}. Next:")
    print(f"  docker plugin create {name} {shlex.quote(output)}")
    print(f"  docker plugin enable {name}")
    print(f"  dockerd --experimental -s {name}")
    return OK


COMMAND: Final = Command(
    name="package",
    summary="make a managed plugin of an installed driver",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
