"""The image that most tests of daemons load."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.ground import tool
from tests.support.images import LayerTar, image_archive


def static_busybox() -> bytes:
    """Return a static busybox, all that an image needs to run."""
    path = tool("busybox")
    told = subprocess.run(["ldd", path], capture_output=True, text=True)
    assert told.returncode != 0, f"{path} is not static; Debian's busybox-static is"
    return Path(path).read_bytes()


def small_image(folder: Path, busybox: bytes) -> Path:
    """Write an image called ``small``, to be loaded: a shell, and ``/data/file``."""
    tar = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    for applet in ("cat", "rm", "sh", "sleep", "sync", "tail"):
        tar.symlink(f"bin/{applet}", "busybox")
    upper = LayerTar().folder("data").add("data/file", data=b"from the image\n")
    path = folder / "small.tar"
    image_archive(path, "small", [tar.done(), upper.done()], {"Env": ["PATH=/bin"]})
    return path
