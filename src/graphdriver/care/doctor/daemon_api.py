"""Asks Docker's daemon over its API socket, with a limit for time and for the length of an answer.

The answer is read to the end of the connection, as HTTP/1.0 has it, so nothing of it decides how long
that takes.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Final

SOCKET: Final = "/run/docker.sock"
"""Where the daemon listens by default."""

SECONDS: Final = 5.0
LONGEST: Final = 4 << 20
"""Bytes of an answer, head and body."""


def ask_daemon(path: str, question: str, seconds: float = SECONDS) -> dict[str, object]:
    """Return the daemon's answer to a GET.

    Args:
        path: its socket.
        question: the path of the URL: ``/version``.
        seconds: how long all of it may take.

    Raises:
        OSError: no process listens there, or no answer came in time.
        ValueError: what came is not an answer of Docker's API.
    """
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(f"GET {question} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        answer = bytearray()
        while piece := _receive(connection, deadline):
            answer += piece
            if len(answer) > LONGEST:
                raise ValueError(f"its answer to {question} is longer than {LONGEST >> 20} MiB")
    head, found, body = bytes(answer).partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].split(b" ")
    if not found or len(status) < 2 or not status[0].startswith(b"HTTP/1."):
        raise ValueError(f"its answer to {question} is not HTTP")
    if status[1] != b"200":
        raise ValueError(f"its answer to {question} has the status {status[1][:20]!r}")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its answer to {question} is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError(f"its answer to {question} is not a JSON object")  # noqa: TRY004
    return value


def _receive(connection: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it did not answer in time")
    connection.settimeout(left)
    return connection.recv(1 << 16)
