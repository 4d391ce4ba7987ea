"""A plugin in a process of its own, and the calls to it as a daemon makes them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from graphdriver import Client

CHUNK = 32 << 10
"""Bytes that a daemon sends and reads at a time."""


class Plugin:
    """A plugin in a process of its own, and calls to it as a daemon makes them."""

    def __init__(self, driver: str, directory: Path, options: list[str], python: str) -> None:
        # Its name is the plugin's, and is registered for the whole machine.
        self.path = f"{directory}/{directory.parent.name}-{directory.name}.sock"
        words = [word for option in options for word in ("--opt", option)]
        self.process = subprocess.Popen(
            [python, "-m", "graphdriver", "serve", driver, "--socket", self.path, *words],
            stdout=subprocess.DEVNULL,
        )
        while not os.path.exists(self.path):
            time.sleep(0.02)
        self.home = f"{directory}/home"
        self.client = Client(self.path)
        self.client.init(self.home, [], [], [])
        self._count = 0

    def close(self) -> None:
        """Stop it."""
        self.client.cleanup()
        self.process.terminate()
        self.process.wait()

    def peak(self) -> float:
        """Return the most memory that it ever had, in MB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["VmHWM"].split()[0]) / 1024

    def settled(self) -> float:
        """Wait until it does nothing, also behind an answer; return its processor time so far."""
        clock = (~self.process.pid << 3) | 2  # clock_getcpuclockid(3)
        before = -1.0
        while (now := time.clock_gettime(clock)) - before > 0.0005:
            before = now
            time.sleep(0.05)
        return now

    def unmounted(self) -> None:
        """Wait until nothing is mounted in its home: images stay mounted for some seconds."""
        while any(
            self.home in line for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ):
            time.sleep(0.1)

    def new(self, parent: str = "") -> str:
        """Create a layer."""
        self._count += 1
        self.client.create(f"layer{self._count}", parent, "", {})
        return f"layer{self._count}"

    def apply(self, id: str, parent: str, tar: Path) -> float:
        """Send a tar in chunks; return the seconds until the answer."""
        head = (
            f"POST /GraphDriver.ApplyDiff?id={id}&parent={parent} HTTP/1.1\r\nHost: \r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(self.path)
            started = time.perf_counter()
            connection.sendall(head.encode())
            send_chunks(connection, tar)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return time.perf_counter() - started

    def diff(self, id: str, parent: str) -> float:
        """Read a diff to its end, and discard it; return the seconds."""
        body = json.dumps({"ID": id, "Parent": parent})
        head = f"POST /GraphDriver.Diff HTTP/1.1\r\nHost: \r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(self.path)
            started = time.perf_counter()
            connection.sendall((head + body).encode())
            discard_response(connection)
        return time.perf_counter() - started


def discard_response(connection: socket.socket) -> None:
    """Read a response to its end: one of a known length, or one in chunks."""
    buffer = bytearray(CHUNK)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(CHUNK)
    head, _, last = head.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        left = int(length[1]) - len(last)
        while left and (size := connection.recv_into(buffer)):
            left -= size
        assert not left
        return
    while not last.endswith(b"0\r\n\r\n"):
        size = connection.recv_into(buffer)
        assert size
        last = (last + buffer[max(0, size - 5) : size])[-5:]


def send_chunks(connection: socket.socket, tar: Path) -> None:
    """Send a tar as a chunked body, without a copy in this process."""
    framed = bytearray(b"%x\r\n%b\r\n" % (CHUNK, bytes(CHUNK)))
    start = len(framed) - CHUNK - 2
    piece = memoryview(framed)[start:-2]
    with open(tar, "rb", buffering=0) as file:
        while (size := file.readinto(piece)) == CHUNK:
            connection.sendall(framed)
    if size:
        connection.sendall(b"%x\r\n%b\r\n" % (size, bytes(piece[:size])))
    connection.sendall(b"0\r\n\r\n")


@contextlib.contextmanager
def served(
    driver: str, directory: Path, options: list[str], python: str = sys.executable
) -> Iterator[Plugin]:
    """Serve a driver in a new directory."""
    directory.mkdir(exist_ok=True)
    plugin = Plugin(driver, directory, options, python)
    try:
        yield plugin
    finally:
        plugin.close()
