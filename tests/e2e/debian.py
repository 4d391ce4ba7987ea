"""A Debian root filesystem as debootstrap makes it, kept as a tar between runs."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.ground import require, tool

SUITE = "bookworm"
PACKAGES = "attr,libcap2-bin"
"""What minbase lacks and the tests use: setfattr, setcap."""


def root_filesystem() -> Path:
    """Return the tar, made now if this machine has none yet."""
    cache = _cache()
    kept = cache / f"debian-{SUITE}-{PACKAGES.replace(',', '-')}.tar"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=cache) as work:
            root, made = Path(work, "root"), Path(work, "tar")
            command = [tool("debootstrap"), "--variant=minbase", f"--include={PACKAGES}"]
            done = subprocess.run(
                [*command, SUITE, root, _mirror()], capture_output=True, text=True
            )
            require(done.returncode == 0, f"debootstrap failed: {done.stdout[-500:]}")
            pack = ["tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
            subprocess.run([*pack, f"--file={made}", f"--directory={root}", "."], check=True)
            made.rename(kept)
    return kept


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    cache = Path(base or "/var/cache", "graphdriver-tests")
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _mirror() -> str:
    """Return the archive that this machine's own apt uses."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE)"],
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        release, component, site = line.split(" ", 2)
        if (release, component) == (SUITE, "main"):
            return site
    return "http://deb.debian.org/debian"
