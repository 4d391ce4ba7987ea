"""``make deb``: a package without faults, which makes a clean Debian serve a daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphdriver
from graphdriver.conformance.plugin import tars
from tests.support.containerd_images import write_image
from tests.support.documented import ROOT, block
from tests.support.ground import tool
from tests.support.overlays import mounted_overlay
from tests.support.small_image import static_busybox
from tests.support.systemd import MAKES_CGROUPS, RUNS_CONTAINERS, Machine, machine

pytestmark = [pytest.mark.root, pytest.mark.long]

SUITE = "bookworm"
PLUGIN = "py-overlay2"
OF_THE_ROOT = "ca-certificates,containerd,dbus,docker.io,iptables,procps,python3,runc,systemd"
INSTALLS = block("docs/how-to/install.md", "sh", "apt-get install ./")
ENABLES = block("docs/how-to/install.md", "sh", "systemctl enable")
BUILDS = block("docs/how-to/install.md", "sh", "make deb")
PURGES = block("docs/how-to/install.md", "sh", "apt-get purge")
ASKS_NOTHING = 'APT::Get::Assume-Yes "true";'
DEBIAN_13 = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install lintian
cd /root/graphdriver
{BUILDS}
lintian --fail-on=error,warning dist/graphdriver_*.deb >&2
cd dist
{INSTALLS}
graphdriver --version >&2
graphdriver drivers >&2
{PURGES}
test ! -e /usr/lib/graphdriver
"""
DAEMON = {
    "experimental": True,
    "storage-driver": PLUGIN,
    "bridge": "none",
    "iptables": False,
}


def make_deb(output: Path) -> Path:
    done = subprocess.run([ROOT / "release/deb", output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = output.iterdir()
    return found


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_deb(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine in which nothing is installed but Docker and Python."""
    root = tmp_path_factory.mktemp("root")
    command = [
        tool("debootstrap"),
        "--variant=minbase",
        f"--include={OF_THE_ROOT}",
        SUITE,
        str(root),
    ]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    ask_nothing(root)
    with machine(tmp_path_factory.mktemp("machine"), *RUNS_CONTAINERS, base=root) as one:
        one.run("bash", "-euc", MAKES_CGROUPS)
        yield one
    shutil.rmtree(root)


def ask_nothing(root: Path) -> None:
    """Let the lines of the page run without a terminal."""
    (root / "etc/apt/apt.conf.d/ask-nothing").write_text(ASKS_NOTHING)


def test_the_package_is_one_that_debian_would_take(deb: Path) -> None:
    assert deb.name.startswith(f"graphdriver_{graphdriver.__version__}+debian12_")
    checked = subprocess.run(
        [tool("lintian"), "--fail-on=error,warning", deb], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_two_builds_have_the_same_bytes(deb: Path, tmp_path: Path) -> None:
    assert make_deb(tmp_path / "again").read_bytes() == deb.read_bytes()


def test_a_clean_debian_serves_a_daemon_is_upgraded_and_is_clean_again(
    deb: Path, booted: Machine
) -> None:
    def is_active(unit: str) -> bool:
        return booted.run("systemctl", "is-active", unit, check=False).stdout == "active\n"

    shutil.copy(deb, booted.root / "root")
    before = everything(booted)
    booted.run("bash", "-euc", f"cd /root; {INSTALLS}")
    assert booted.run("graphdriver", "--version").stdout.split()[1] == graphdriver.__version__
    assert not is_active(f"{PLUGIN}.socket")

    layer = tars.tar(
        tars.directory(b"bin"),
        tars.file(b"bin/busybox", static_busybox(), mode=0o755),
        tars.symlink(b"bin/sleep", b"busybox"),
    )
    write_image(booted.root / "root/image.tar", "docker.io/library/small:1", [layer])
    (booted.root / "etc/docker").mkdir(exist_ok=True)
    (booted.root / "etc/docker/daemon.json").write_text(json.dumps(DAEMON))
    booted.run("bash", "-euc", ENABLES)
    booted.systemctl("start", "containerd.service", "docker.service")
    assert booted.run("docker", "info", "--format", "{{.Driver}}").stdout.strip() == PLUGIN
    booted.run("docker", "load", "--input", "/root/image.tar")
    run = ("docker", "run", "--detach", "--network", "none", "--name", "one", "small:1")
    booted.run(*run, "sleep", "infinity")

    pid = booted.main_pid(f"{PLUGIN}.service")
    booted.run("dpkg", "--install", f"/root/{deb.name}")
    assert booted.main_pid(f"{PLUGIN}.service") not in (0, pid)
    assert "busybox" in booted.run("docker", "exec", "one", "busybox", "ls", "/bin").stdout
    assert not is_active("py-vfs.socket")

    booted.run("docker", "rm", "--force", "one")
    booted.systemctl("stop", "docker.socket", "docker.service")
    booted.run("bash", "-euc", PURGES)
    assert not is_active(f"{PLUGIN}.socket")
    assert not is_active(f"{PLUGIN}.service")
    assert everything(booted) - before == set()


@pytest.mark.timeout(1800)
def test_debian_13_builds_and_takes_its_own_package(tmp_path: Path) -> None:
    """By the lines of the page, in a checkout."""
    found = subprocess.run(
        [ROOT / "tests/debian_root", "trixie"], stdout=subprocess.PIPE, text=True, check=True
    )
    (tmp_path / "upper").mkdir()
    with mounted_overlay(tmp_path, [Path(found.stdout.strip())], tmp_path / "upper") as root:
        ask_nothing(root)
        subprocess.run(["git", "clone", "--quiet", ROOT, root / "root/graphdriver"], check=True)
        enter = [
            *(tool("systemd-nspawn"), "--quiet", "--register=no", "--keep-unit", "--pipe"),
            *(f"--directory={root}", "--resolv-conf=copy-host", "--bind-ro=/etc/ssl/certs"),
            # The package index is the one that is used here.
            *(f"--setenv={name}" for name in os.environ if name.startswith("PIP_")),
        ]
        done = subprocess.run([*enter, "bash", "-euc", DEBIAN_13], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"graphdriver {graphdriver.__version__}" in done.stderr
    assert "overlay2 " in done.stderr


def everything(booted: Machine) -> set[str]:
    """Return the names of all files that a package could leave."""
    found = booted.run("find", "/usr", "/lib/systemd", "/etc/systemd", "/var/lib/systemd")
    return {one for one in found.stdout.splitlines() if "python3" not in one}
