"""A registry of images on this machine: Debian's docker-registry, and what tests push to it."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.ground import tool
from tests.support.waiting import wait_until
from tests.support.zstd_module import zstd

_KIND: Final = "application/vnd.oci.image"
_COMPRESS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": functools.partial(gzip.compress, compresslevel=6),  # as Docker does
    "zstd": zstd.compress,
}


@contextlib.contextmanager
def registry(folder: Path, host: str = "127.0.0.1", *, users: str = "") -> Iterator[str]:
    """Run a registry; yield its address with the port.

    Args:
        folder: the directory of its files.
        host: an IP address of this machine.
        users: who may use it, as lines of a file of htpasswd; ``""``: everybody.
    """
    with socket.socket() as free:
        free.bind((host, 0))
        address = f"{host}:{free.getsockname()[1]}"
    config = folder / "registry.json"
    settings: dict[str, object] = {
        "version": 0.1,
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": address},
    }
    if users:
        (folder / "users").write_text(users)
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
    config.write_text(json.dumps(settings))
    with open(folder / "registry.log", "wb") as log:
        process = subprocess.Popen(
            [tool("docker-registry"), "serve", str(config)], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _answers(address))
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/v2/").close()
    except urllib.error.HTTPError:  # it asks who asks
        return True
    except OSError:
        return False
    return True


def push(
    address: str,
    name: str,
    layers: Sequence[bytes],
    command: Sequence[str] = ("/bin/sh",),
    compression: str = "zstd",
) -> str:
    """Push an image; return its reference.

    Args:
        address: the registry's.
        name: the image's, without a tag.
        layers: tars.
        command: the program of its containers.
        compression: of the layers, ``gzip`` or ``zstd``.
    """
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
    }
    base = f"http://{address}/v2/{name}"
    kind = f"{_KIND}.config.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}.manifest.v1+json",
        "config": _push_blob(base, kind, json.dumps(config).encode()),
        "layers": [
            _push_blob(base, f"{_KIND}.layer.v1.tar+{compression}", _COMPRESS[compression](layer))
            for layer in layers
        ],
    }
    _send("PUT", f"{base}/manifests/1", json.dumps(manifest).encode(), str(manifest["mediaType"]))
    return f"{address}/{name}:1"


def _push_blob(base: str, media_type: str, data: bytes) -> Mapping[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    place = _send("POST", f"{base}/blobs/uploads/", b"", "application/octet-stream")
    _send("PUT", f"{place}&digest={digest}", data, "application/octet-stream")
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _send(method: str, url: str, data: bytes, media_type: str) -> str:
    """Send a request; return the header Location of its answer."""
    request = urllib.request.Request(url, data, {"Content-Type": media_type}, method=method)
    with urllib.request.urlopen(request) as answer:
        return str(answer.headers["Location"])


class Breaking:
    """Stands between a registry and its clients; breaks off once it has passed on so many bytes.

    From then on it accepts connections and closes them, until `mend`.

    Args:
        registry: the registry's address.
        passes: how many bytes it passes on to clients.
    """

    def __init__(self, registry: str, passes: int) -> None:
        self._registry = registry
        self._left: float = passes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def has_broken_off(self) -> bool:
        """Whether it passes nothing on any more."""
        return self._left <= 0

    def mend(self) -> None:
        """Pass everything on from now on."""
        self._left = float("inf")

    def close(self) -> None:
        """Accept no connection any more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                if self.has_broken_off:
                    client.close()
                    continue
                host, port = self._registry.split(":")
                server = socket.create_connection((host, int(port)))
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target, target is client), daemon=True
                    ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_counted: bool) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(1 << 16):
                if is_counted:
                    self._left -= len(data)
                if self.has_broken_off:
                    break
                target.sendall(data)
            for one in (source, target):
                one.shutdown(socket.SHUT_RDWR)
