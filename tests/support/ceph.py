"""Ceph of Debian 13 with its gateway for S3: all daemons on this machine, everything in memory."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import obstore
from obstore.store import S3Store

from tests.support.documented import ROOT
from tests.support.waiting import wait_until

_ACCESS: Final = "access"
_SECRET: Final = "secret-key"


@contextlib.contextmanager
def ceph_s3(folder: Path, address: str, bucket: str) -> Iterator[dict[str, str]]:
    """Run a gateway that has an empty bucket; yield the environment in which a client finds it.

    Args:
        folder: for the log.
        address: an IP address of this machine that no other Ceph has.
        bucket: the bucket's name.
    """
    done = subprocess.run([ROOT / "tests/ceph_root"], check=True, stdout=subprocess.PIPE, text=True)
    root = done.stdout.strip()
    shutil.copy(ROOT / "tests/support/ceph_gateway", f"{root}/usr/local/bin")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", root]
    url = f"http://{address}:7480"
    with open(folder / "ceph.log", "wb") as log:
        process = subprocess.Popen(
            [*command, "ceph_gateway", address, _ACCESS, _SECRET], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(url))
        assert process.poll() is None, (folder / "ceph.log").read_text()[-3000:]
        _make_bucket(url, bucket)
        yield {
            "AWS_ACCESS_KEY_ID": _ACCESS,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": _SECRET,
        }
    finally:
        process.kill()
        process.wait()


def _make_bucket(url: str, bucket: str) -> None:
    store = S3Store(
        bucket,
        endpoint=url,
        region="us-east-1",
        access_key_id=_ACCESS,
        secret_access_key=_SECRET,
        client_options={"allow_http": True},
    )
    signed = obstore.sign(store, "PUT", "", datetime.timedelta(minutes=1))
    urllib.request.urlopen(urllib.request.Request(signed, method="PUT")).close()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
