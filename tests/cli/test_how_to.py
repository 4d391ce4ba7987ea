"""The how-tos, each followed as it is written, in a machine with systemd and real engines."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from tests.support.containerd_images import write_image
from tests.support.documented import blocks
from tests.support.filesystems import loop
from tests.support.followed import Command, is_as_shown, steps
from tests.support.ground import tool
from tests.support.small_image import static_busybox
from tests.support.systemd import MAKES_CGROUPS, RUNS_CONTAINERS, Machine, machine

pytestmark = pytest.mark.root

IMAGE = "/root/debian.tar"
"""An image called debian:12, so that nothing is pulled."""

HAS_IMAGE = (
    f"docker image inspect debian:12 > /dev/null 2>&1 || docker load --quiet --input {IMAGE}"
)

PREPARES = f"""{MAKES_CGROUPS}
ln -sf {Path(sys.prefix) / "bin/graphdriver"} /usr/local/bin/graphdriver
systemctl start containerd.service docker.service
"""

RESETS = r"""
docker ps --quiet | xargs --no-run-if-empty docker rm --force > /dev/null
systemctl stop docker.socket docker.service 'py-*.socket' 'py-*.service'
cd /etc/systemd/system
rm -rf py-* docker.service.d /etc/docker /etc/graphdriver
systemctl daemon-reload
systemctl reset-failed
find /var/lib/docker -mindepth 1 -delete
systemctl start docker.service
"""


ALONE = ("quotas", "tls")
"""Pages that begin with a machine on which nothing is set up."""


@pytest.fixture(scope="module")
def image() -> bytes:
    """The one layer of debian:12 here."""
    programs = (b"sh", b"cat", b"dd", b"echo", b"sleep", b"true")
    return tars.tar(
        tars.directory(b"bin"),
        tars.file(b"bin/busybox", static_busybox(), mode=0o755),
        *(tars.symlink(b"bin/" + one, b"busybox") for one in programs),
    )


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, image: bytes) -> Iterator[Machine]:
    for program in ("dockerd", "containerd", "openssl", "curl"):
        tool(program)
    folder = tmp_path_factory.mktemp("machine")
    with (
        loop("btrfs", folder, 1 << 30) as btrfs,
        loop("ext4", folder, 1 << 30) as ext4,
        machine(
            folder,
            *RUNS_CONTAINERS,
            "--tmpfs=/var/lib/containerd",
            f"--bind={btrfs}:/srv/docker",
            f"--bind={ext4}:/srv/disk",
        ) as one,
    ):
        write_image(one.root / IMAGE[1:], "docker.io/library/debian:12", [image])
        one.run("bash", "-euc", PREPARES)
        yield one


@contextlib.contextmanager
def afterwards_as_before(booted: Machine) -> Iterator[None]:
    """Let the daemon run on its own driver again, with nothing of a page left."""
    try:
        yield
    finally:
        booted.run("bash", "-c", RESETS, check=False)


def follow(booted: Machine, page: str) -> None:
    """Run all that a page shows in one shell, and compare what it prints with what is shown."""
    shown = steps(page)
    script = ["cd /root"]
    for number, step in enumerate(shown):
        if isinstance(step, Command):
            if "docker run" in step.text:
                script.append(HAS_IMAGE)
            script.append(f'{{ {step.text}\n}} > /tmp/out.{number} 2>&1 || echo "ended with $?"')
        elif isinstance(step, str):
            script.append(step)
    booted.run("bash", "-eu", "-o", "pipefail", "-c", "\n".join(script))
    for number, step in enumerate(shown):
        if isinstance(step, Command):
            said = (booted.root / f"tmp/out.{number}").read_text()
            assert is_as_shown(step.shown, said), f"{step.text}\n{said}"


def test_a_plugin_is_set_up_upgraded_and_given_up_again(booted: Machine) -> None:
    with afterwards_as_before(booted):
        follow(booted, "docs/how-to/docker.md")
        booted.run("docker", "run", "--detach", "--name", "web", "debian:12", "sleep", "infinity")
        follow(booted, "docs/how-to/upgrade.md")
        follow(booted, "docs/how-to/back-out.md")
        assert not (booted.root / "var/lib/docker/py-overlay2").exists()


@pytest.mark.parametrize("page", ALONE)
@pytest.mark.long
def test_a_daemon_runs_on_what_a_page_sets_up(booted: Machine, page: str) -> None:
    with afterwards_as_before(booted):
        follow(booted, f"docs/how-to/{page}.md")


@pytest.mark.long
def test_a_daemon_on_a_disk_runs_on_erofs(booted: Machine) -> None:
    on_disk = "systemctl stop docker.socket docker.service; mount --bind /srv/disk /var/lib/docker"
    with afterwards_as_before(booted):
        booted.run("bash", "-euc", f"{on_disk}; systemctl start docker.service")
        try:
            follow(booted, "docs/how-to/erofs.md")
        finally:
            booted.systemctl("stop", "docker.socket", "docker.service", "py-erofs.socket")
            booted.run("bash", "-euc", "systemctl stop py-erofs.service; umount /var/lib/docker")


@pytest.mark.long
def test_a_plugin_under_systemd_gets_metrics_and_options_and_is_stopped(booted: Machine) -> None:
    with afterwards_as_before(booted):
        follow(booted, "docs/how-to/docker.md")
        follow(booted, "docs/how-to/metrics.md")
        follow(booted, "docs/how-to/systemd.md")


@pytest.mark.long
def test_a_plugin_follows_a_daemon_that_remaps_users(booted: Machine) -> None:
    with afterwards_as_before(booted):
        follow(booted, "docs/how-to/docker.md")
        follow(booted, "docs/how-to/remap.md")


@pytest.mark.long
def test_containerd_runs_on_a_snapshotter(booted: Machine) -> None:
    follow(booted, "docs/how-to/containerd.md")


@pytest.mark.long
def test_a_node_of_kubernetes_is_set_up_upgraded_and_given_up_again(booted: Machine) -> None:
    booted.run("bash", "-euc", "mkdir -p /etc/containerd; touch /etc/containerd/config.toml")
    follow(booted, "docs/how-to/kubernetes.md")


def test_every_page_that_names_this_file_is_followed() -> None:
    shown = Path(__file__).read_text()
    followed = set(re.findall(r"docs/how-to/[\w-]+\.md", shown))
    followed |= {f"docs/how-to/{page}.md" for page in ALONE}
    here = f"tests/cli/{Path(__file__).name}"
    assert followed == {one.page for one in blocks() if one.run_by == here}


@pytest.mark.parametrize(
    ("shown", "said", "is_same"),
    [
        ("a\n", "a\n", True),
        ("a …\nb", "a 1\n2\nb\n", True),
        ("a\n", "a\nb\n", False),
        ("", "a", False),
    ],
)
def test_an_output_is_compared_with_what_is_shown(shown: str, said: str, is_same: bool) -> None:
    assert is_as_shown(shown, said) is is_same
