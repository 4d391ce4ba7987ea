"""Spec files, by which a daemon finds a plugin that does not listen in ``/run/docker/plugins``.

``NAME.spec`` holds the address in one line; ``NAME.json`` also holds the daemon's side of TLS. The file
of a plugin that was killed stays. So a file is replaced, with a warning, if no process listens at its
address; otherwise it belongs to another plugin and is kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket

from graphdriver.docker.address.discovery import PLUGIN_SPECS, Address, ClientTLS, find, read_spec
from graphdriver.docker.address.listeners import PLUGIN_SOCKETS
from graphdriver.errors import GraphDriverError, InUseError
from graphdriver.files.directories import make_directories
from graphdriver.files.path_lock import TIMEOUT_AT_STOP, locked
from graphdriver.files.small_files import write_whole

_log = logging.getLogger(__name__)


class SpecFile:
    """A spec file; `close` removes it, if it is still the one that we wrote.

    Make it when the plugin listens: a daemon that finds it connects.

    Args:
        name: the plugin's name.
        address: ``unix:///…``, ``tcp://host:port`` or, with ``tls``, ``https://host:port``.
        tls: the files for the daemon.
        directory: where to write it.

    Raises:
        InUseError: the file of another plugin is there, or a daemon would find another plugin first.
        GraphDriverError: the file cannot be written.
    """

    def __init__(
        self, name: str, address: str, tls: ClientTLS | None = None, directory: str = PLUGIN_SPECS
    ) -> None:
        if tls is None:
            self.path = os.path.join(directory, f"{name}.spec")
            self._text = address
        else:
            self.path = os.path.join(directory, f"{name}.json")
            config = {
                "InsecureSkipVerify": False,
                "CAFile": tls.ca_file,
                "CertFile": tls.cert_file,
                "KeyFile": tls.key_file,
            }
            self._text = json.dumps({"Name": name, "Addr": address, "TLSConfig": config}, indent=2)
        try:
            make_directories(directory, 0o755)
            with locked(directory):
                self._clear_stale()
                write_whole(self.path, self._text, 0o644)
                self._made = _identity(self.path)
        except OSError as error:
            raise GraphDriverError(
                f"cannot write {self.path}, by which a daemon finds the plugin: {error.strerror}",
                hint=f"listen in {PLUGIN_SOCKETS}, where a daemon needs no file",
            ) from error
        try:
            self._expect_to_be_found(name, Address.parse(address, tls), directory)
        except BaseException:
            self.close()
            raise

    def _expect_to_be_found(self, name: str, address: Address, directory: str) -> None:
        found = find(name, specs=(directory,))
        if found != address:
            raise InUseError(
                f"a daemon that looks for {name} would find {found} and never {address}",
                hint=f"remove that one, which comes before {self.path}, or choose another name",
            )

    def _clear_stale(self) -> None:
        there = _text(self.path)
        if there is None or there == self._text:
            return
        try:
            address = read_spec(self.path)
        except GraphDriverError as error:
            raise InUseError(f"{error}; this process did not write it", hint="move it") from error
        trouble = _why_nobody_answers(address)
        if trouble is None:
            raise InUseError(
                f"{self.path} belongs to another plugin, at {address}, which answers or may answer",
                hint="stop that plugin first, or choose another name",
            )
        _log.warning("replacing %s, left behind by a plugin at %s: %s", self.path, address, trouble)

    def close(self) -> None:
        """Remove the file, if it is still ours; never raises, and may be repeated."""
        try:
            above = os.path.dirname(self.path)
            with contextlib.suppress(FileNotFoundError), locked(above, TIMEOUT_AT_STOP):
                # Both are compared: the next process may have written the same text already.
                if _identity(self.path) == self._made and _text(self.path) == self._text:
                    os.unlink(self.path)
        except (GraphDriverError, OSError) as error:  # it must not hide the error that led here
            _log.warning("leaving %s: %s", self.path, error)


def _identity(path: str) -> tuple[int, int]:
    there = os.lstat(path)
    return there.st_dev, there.st_ino


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _why_nobody_answers(address: Address) -> str | None:
    """Return why no process can listen at an address; None if one does, or may do.

    Only a refused connection and a missing socket are certain. After a timeout, for example, the file
    stays: it may belong to a plugin that is busy.
    """
    try:
        if address.path:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1)
                probe.connect(address.path)
        else:
            socket.create_connection((address.host, address.port), timeout=1).close()
    except (ConnectionRefusedError, FileNotFoundError) as error:
        return error.strerror
    except OSError:
        return None
    return None
