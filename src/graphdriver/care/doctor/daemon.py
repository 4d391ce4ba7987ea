"""Docker's daemon: its version, its storage driver and its mode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from graphdriver.care.doctor.daemon_api import ask_daemon
from graphdriver.care.findings import Finding, Severity

_TRIED: Final = (20, 10)
_WITHOUT_PLUGINS: Final = 28
_WITH_A_SWITCH: Final = 27
_LONGEST: Final = 100


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What was found.

    Attributes:
        path: its socket.
        problem: why nothing is known; ``""``: it answered.
        is_absent: whether no process listens there.
        version: as it says.
        driver: its storage driver.
        data_root: its directory.
        experimental: whether experimental features, which plugins are, are enabled.
        options: what its security options name: ``rootless``, ``userns``.
        has_image_store: whether containerd keeps its images, and no graph driver.
    """

    path: str
    problem: str = ""
    is_absent: bool = False
    version: str = ""
    driver: str = ""
    data_root: str = ""
    experimental: bool = False
    options: frozenset[str] = frozenset()
    has_image_store: bool = False


def read_daemon(path: str) -> DaemonFacts:
    """Ask a daemon for its facts; anything may listen there."""
    version = ""
    try:
        version = _text(ask_daemon(path, "/version"), "Version")
        info = ask_daemon(path, "/info")
    except (FileNotFoundError, ConnectionRefusedError):
        return DaemonFacts(path, "no daemon listens there", is_absent=True)
    except (OSError, ValueError) as error:
        return DaemonFacts(path, str(error), version=version)
    options = info.get("SecurityOptions")
    named = re.findall(r"name=([a-z]+)", str(options)) if isinstance(options, list) else []
    return DaemonFacts(
        path,
        version=version,
        driver=_text(info, "Driver"),
        data_root=_text(info, "DockerRootDir"),
        experimental=info.get("ExperimentalBuild") is True,
        options=frozenset(named),
        has_image_store="io.containerd.snapshotter" in str(info.get("DriverStatus"))[:4096],
    )


def _text(answer: Mapping[str, object], member: str) -> str:
    value = answer.get(member)
    return value[:_LONGEST] if isinstance(value, str) else ""


def check_daemon(facts: DaemonFacts, plugin: str = "") -> Iterator[Finding]:
    """Yield what the facts mean.

    Args:
        facts: the daemon's.
        plugin: the plugin that the daemon should use; ``""``: any.
    """
    if facts.is_absent:
        yield Finding(Severity.NOTE, "no-daemon", facts.path, "no Docker daemon runs")
        return
    if facts.problem:
        yield Finding(
            Severity.WARNING,
            "daemon-answers-wrongly",
            facts.path,
            f"Docker {facts.version or 'of unknown version'} does not tell its mode: {facts.problem}",
            "see its log (journalctl -u docker): it may wait for a plugin that does not answer",
        )
        return
    mode = sorted(facts.options & {"rootless", "userns"})
    yield Finding(
        Severity.NOTE,
        "daemon",
        facts.path,
        f"Docker {facts.version or 'of unknown version'} on {facts.driver or 'an unknown driver'} at"
        f" {facts.data_root or 'an unknown place'}{''.join(f', {one}' for one in mode)}",
    )
    numbers = [int(number[:9]) for number in re.findall(r"\d+", facts.version)[:2]]
    yield from _check_version(facts, tuple(numbers))
    if facts.has_image_store:
        yield Finding(
            Severity.NOTE,
            "image-store",
            facts.path,
            "the daemon keeps images in containerd, and uses no graph driver plugin",
            "serve containerd with graphdriver snapshotter",
        )
    elif plugin and facts.driver and facts.driver != plugin:
        yield Finding(
            Severity.WARNING,
            "another-driver",
            facts.path,
            f"the daemon uses {facts.driver}, and not {plugin}",
            f'set "storage-driver": "{plugin}" in /etc/docker/daemon.json and restart the daemon',
        )
    elif plugin and not facts.experimental and numbers and numbers[0] < _WITHOUT_PLUGINS:
        yield Finding(
            Severity.WARNING,
            "not-experimental",
            facts.path,
            "the daemon runs without experimental features, and will not start on a plugin",
            'set "experimental": true in /etc/docker/daemon.json',
        )


def _check_version(facts: DaemonFacts, numbers: tuple[int, ...]) -> Iterator[Finding]:
    if not numbers:
        return
    if numbers[0] >= _WITHOUT_PLUGINS and not facts.has_image_store:
        yield Finding(
            Severity.WARNING,
            "no-plugins",
            facts.path,
            f"Docker {facts.version} has no graph driver plugins",
            'set "features": {"containerd-snapshotter": true}, and serve graphdriver snapshotter',
        )
    elif numbers[0] == _WITH_A_SWITCH and not facts.has_image_store:
        yield Finding(
            Severity.NOTE,
            "deprecated-plugins",
            facts.path,
            f"Docker {facts.version} starts on a plugin only with a setting in its environment",
            "DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS=1",
        )
    elif numbers < _TRIED:
        yield Finding(
            Severity.NOTE,
            "untested-version",
            facts.path,
            f"this project was not tested with Docker {facts.version}",
        )
