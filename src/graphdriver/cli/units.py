"""``graphdriver units``: print the systemd units of a plugin or a snapshotter."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import OK, Command
from graphdriver.cli.known_homes import CONTAINERD_ROOT, DATA_ROOT, snapshotter_root
from graphdriver.cli.places import expect_name
from graphdriver.cli.serving import configure_options

if TYPE_CHECKING:
    from graphdriver.driver import ProtoDriver

_UNITS: Final = "/etc/systemd/system"

_EXAMPLES = f"""\
examples:
  graphdriver units plugin overlay2
  graphdriver units plugin overlay2 --name py-fast --opt sync=none --output {_UNITS}
  graphdriver units snapshotter erofs --name mine --output {_UNITS}
  systemctl daemon-reload && systemctl enable --now py-overlay2.socket
"""

_NOTES = """\
A plugin has a socket unit: systemd holds the socket, and calls wait while the plugin is restarted. A
snapshotter has none, since gRPC cannot take over a socket.

docs/operations.md explains each setting.
"""

_SOCKET = """\
[Unit]
Description=The graph driver plugin {name}: its socket
Before=docker.service

[Socket]
ListenStream=/run/docker/plugins/{name}.sock
SocketMode=0660
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
[Unit]
Description={description}
{order}
RequiresMountsFor={home}
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
KillMode=process
Restart=on-failure
RestartSec=1
WatchdogSec=60
TimeoutStopSec=20
LimitNOFILE=65536
TasksMax=infinity
OOMScoreAdjust=-500
{hardening}"""

_INSTALL = """\

[Install]
WantedBy=multi-user.target
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("plugin", "snapshotter"), help="what is served")
    parser.add_argument("driver", metavar="DRIVER", help="an installed driver")
    parser.add_argument(
        "--name", help="the plugin's or snapshotter's name (default: py-DRIVER; it names the units)"
    )
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help=f"the engine's directory (default: {DATA_ROOT}, {CONTAINERD_ROOT})",
    )
    configure_options(parser)
    parser.add_argument(
        "--output", metavar="DIR", help=f"write the units there ({_UNITS}) instead of printing them"
    )


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.drivers.loading import load

    cls = load(arguments.driver)
    name = arguments.name or f"py-{arguments.driver}"
    expect_name(name)
    units = (
        _plugin(arguments, name, cls)
        if arguments.kind == "plugin"
        else _snapshotter(arguments, name, cls)
    )
    if arguments.output is None:
        print("\n".join(f"# {_UNITS}/{file}\n{text}" for file, text in units.items()), end="")
        return OK
    for file, text in units.items():
        path = os.path.join(arguments.output, file)
        with open(path, "w", encoding="utf-8") as unit:
            unit.write(text)
        print(path)
    return OK


def _plugin(arguments: argparse.Namespace, name: str, cls: type[ProtoDriver]) -> dict[str, str]:
    service = _SERVICE.format(
        description=f"The graph driver plugin {name}",
        order=f"Requires={name}.socket\nBefore=docker.service",
        home=_quoted(arguments.data_root or DATA_ROOT),
        command=_command("serve", arguments, "--name", name),
        hardening=_hardening(cls),
    )
    return {f"{name}.socket": _SOCKET.format(name=name), f"{name}.service": service}


def _snapshotter(
    arguments: argparse.Namespace, name: str, cls: type[ProtoDriver]
) -> dict[str, str]:
    from graphdriver.serving.privileges import USER_NAMESPACES

    root = snapshotter_root(name, arguments.data_root or CONTAINERD_ROOT)
    place = ("--address", f"/run/graphdriver-{name}.sock", "--name", name, "--root", root)
    service = _SERVICE.format(
        description=f"The snapshotter {name}",
        order="Before=containerd.service",
        home=_quoted(root),
        command=_command("snapshotter", arguments, *place),
        hardening=_hardening(cls, USER_NAMESPACES),
    )
    return {f"{name}.service": service + _INSTALL}


def _command(command: str, arguments: argparse.Namespace, *more: str) -> str:
    """Return a command line that does not depend on the search path."""
    options = [word for option in arguments.opt for word in ("--opt", option)]
    script = os.path.join(os.path.dirname(sys.executable), "graphdriver")
    program = [script] if os.access(script, os.X_OK) else [sys.executable, "-m", "graphdriver"]
    return " ".join(map(_quoted, [*program, command, arguments.driver, *more, *options]))


def _quoted(word: str) -> str:
    """Return a word as systemd reads it: in quotes if necessary, ``%`` and ``$`` doubled."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if plain and not set(plain) & set(" \t\n\"'\\;"):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _hardening(cls: type[ProtoDriver], more: Collection[str] = ()) -> str:
    """Return settings that need no mount namespace: the engine must see what the driver mounts."""
    from graphdriver.serving.privileges import kept_capabilities, needs_of

    needs = needs_of(cls)
    if needs is None:  # a driver that declares nothing may need anything
        return ""
    lines = [f"CapabilityBoundingSet={' '.join(sorted(kept_capabilities(cls, more)))}"]
    if not needs.set_uid_programs:
        lines.append("NoNewPrivileges=yes")
    lines += [
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap",
        "SystemCallErrorNumber=EPERM",
    ]
    return "".join(f"{line}\n" for line in lines)


COMMAND: Final = Command(
    name="units",
    summary="print the systemd units of a plugin or a snapshotter",
    examples=_EXAMPLES,
    notes=_NOTES,
    configure=_configure,
    run=_run,
)
