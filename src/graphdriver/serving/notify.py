"""Notifications to systemd about the state of the service: sd_notify(3).

The protocol is a variable and a datagram, and needs no library. The variable is removed from the
environment, so that child processes do not send notifications.
"""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


class Notifier:
    """A sender of the service's state to systemd.

    Args:
        address: a path, or a name after ``@``, as in ``NOTIFY_SOCKET``.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    @classmethod
    def wanted(cls) -> Notifier | None:
        """Return a notifier if systemd asks for notifications (``Type=notify``)."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        return cls(address) if address else None

    def ready(self, status: str) -> None:
        """Notify systemd that calls are answered from now on.

        Args:
            status: what ``systemctl status`` shows.
        """
        self._send("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """Notify systemd that the service has begun to stop."""
        self._send("STOPPING=1")

    def _send(self, *assignments: str) -> None:
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto("\n".join(assignments).encode(), address)
            except OSError as error:  # only a warning: the service works without it
                _log.warning("cannot notify systemd at %s: %s", self._address, error.strerror)
