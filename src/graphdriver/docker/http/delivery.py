"""The delivery of a response: whether its caller has read it.

A send only fills a buffer of the kernel; whether anybody reads it is known later, or never. The kernel
reports:

- A send fails: the caller had closed the connection before.
- The connection is reset instead of ended. On a unix socket this always means that the caller closed
  it, or died, with something unread. Over TCP it may also mean that a router forgot the connection
  hours after all was read.
- The connection ends. Then all was read if nothing is left unread and there is no error. Over TCP a
  caller that closed before answers with a reset, which is the error EPIPE here.
- Only one direction ends: the caller sends no more, and still reads. We wait for it.

Where it cannot be known, the response counts as read: a Get that is undone while a container uses the
mount does more harm than a Get that stays.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
from typing import Final

_INTERVAL: Final = 20
"""How often to ask the kernel, in milliseconds: it does not report that a buffer became empty."""


def was_read(connection: socket.socket) -> bool:
    """Wait until a caller that sends no more has read everything, or is gone.

    Returns:
        Whether it has read everything, as far as the kernel knows.
    """
    gone = select.poll()
    gone.register(connection, 0)  # the kernel always reports a hang-up
    while _has_unread(connection) and not gone.poll(_INTERVAL):
        pass
    # The error is read last: on a unix socket it is set before the buffer is emptied, so an empty
    # buffer without an error was read.
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return error != errno.EPIPE and not (error and reset_means_unread(connection))


def reset_means_unread(connection: socket.socket) -> bool:
    """Tell whether a reset of this connection always means that something was not read."""
    return connection.family == socket.AF_UNIX


def _has_unread(connection: socket.socket) -> bool:
    """Tell whether data waits to be read (unix) or acknowledged (TCP)."""
    answer = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    return struct.unpack("i", answer) != (0,)
