"""Notifications to systemd about the state of the service: sd_notify(3).

The protocol is some variables and a datagram, and needs no library. The variables are removed from the
environment, so that child processes do not send notifications.

With ``WatchdogSec=`` systemd restarts a service that sends no sign of life for so long. Here the thread
that accepts connections sends it: a call that takes long is no reason for a restart.
"""

from __future__ import annotations

import logging
import os
import socket
import time

_log = logging.getLogger(__name__)


class Notifier:
    """A sender of the service's state to systemd.

    Args:
        address: a path, or a name after ``@``, as in ``NOTIFY_SOCKET``.
        interval: how often to send a sign of life, in seconds; None: never.
    """

    def __init__(self, address: str, interval: float | None = None) -> None:
        self._address = address
        self.interval = interval
        self._last = time.monotonic()

    @classmethod
    def wanted(cls) -> Notifier | None:
        """Return a notifier if systemd asks for notifications (``Type=notify``)."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        allowed = os.environ.pop("WATCHDOG_USEC", "")
        of_process = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        is_watched = allowed.isdecimal() and int(allowed) and of_process == str(os.getpid())
        # Half of what is allowed, as sd_watchdog_enabled(3) recommends.
        return cls(address, int(allowed) / 2e6 if is_watched else None) if address else None

    def ready(self, status: str) -> None:
        """Notify systemd that calls are answered from now on.

        Args:
            status: what ``systemctl status`` shows.
        """
        self._send("READY=1", f"STATUS={status}")

    def is_alive(self) -> None:
        """Send a sign of life, if one is due."""
        now = time.monotonic()
        if self.interval is not None and now - self._last >= self.interval / 2:
            self._last = now
            self._send("WATCHDOG=1")

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
