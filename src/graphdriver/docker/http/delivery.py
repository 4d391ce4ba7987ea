"""Whether a caller has taken what it was sent.

A send only fills a buffer of the kernel's; whether anybody reads it is seen later, or never. What the
kernel tells:

- A send fails: the caller was gone before, for certain.
- The connection is reset instead of ended. On a unix socket that means exactly that the caller closed
  it, or died, with something unread. Over TCP it may mean that, or that a router forgot the
  connection hours after all was read.
- The connection ends. Then all was read if nothing is left on its way and there is no error; over TCP
  a caller that had closed before answers what comes with a reset, which is the error EPIPE here.
- Only one direction ends: the caller has said all that it will say, and still reads. It is waited for.

Where it cannot be known, an answer counts as taken: a Get that is undone while a container runs on
it does more harm than one that stays.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
from typing import Final

_LOOK: Final = 20
"""How often to look whether somebody reads, in milliseconds."""


def was_taken(connection: socket.socket) -> bool:
    """Wait until a caller that sends no more has taken all that it was sent, or is gone; tell which."""
    gone = select.poll()
    gone.register(connection, 0)  # a hang-up is told unasked
    while _on_its_way(connection) and not gone.poll(_LOOK):
        pass
    # In this order: on a unix socket the error is there before the buffer is emptied.
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return error != errno.EPIPE and not (error and tells_of_the_unread(connection))


def tells_of_the_unread(connection: socket.socket) -> bool:
    """Tell whether a reset of the connection can only mean that something was not read."""
    return connection.family == socket.AF_UNIX


def _on_its_way(connection: socket.socket) -> bool:
    """Tell whether something waits to be read (unix), or to be acknowledged (TCP)."""
    answer = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    return struct.unpack("i", answer) != (0,)
