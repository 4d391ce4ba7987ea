"""The file by which a daemon finds a plugin that does not listen in ``/run/docker/plugins``.

``NAME.spec`` holds one line, the address; ``NAME.json`` also holds the daemon's side of TLS. Such a
file outlives a plugin that was killed, so one that names an address where nobody listens is taken
for that and replaced, with a warning; one whose address is served is somebody else's, and kept.
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
    """A spec file that is removed again on `close`, if it is still the one that we wrote.

    Make it once the plugin listens.

    Args:
        name: the plugin's name.
        address: ``unix:///…``, ``tcp://host:port`` or, with ``tls``, ``https://host:port``.
        tls: the files that the daemon shall use.
        folder: where to write it.

    Raises:
        InUseError: there is another plugin's, or a daemon would find another plugin before it.
        GraphDriverError: it cannot be written.
    """

    def __init__(
        self, name: str, address: str, tls: ClientTLS | None = None, folder: str = PLUGIN_SPECS
    ) -> None:
        if tls is None:
            self.path = os.path.join(folder, f"{name}.spec")
            self._text = address
        else:
            self.path = os.path.join(folder, f"{name}.json")
            config = {
                "InsecureSkipVerify": False,
                "CAFile": tls.ca_file,
                "CertFile": tls.cert_file,
                "KeyFile": tls.key_file,
            }
            self._text = json.dumps({"Name": name, "Addr": address, "TLSConfig": config}, indent=2)
        try:
            make_directories(folder, 0o755)
            with locked(folder):
                self._clear_stale()
                write_whole(self.path, self._text, 0o644)
                self._made = _identity(self.path)
        except OSError as error:
            raise GraphDriverError(
                f"{self.path}, which would lead a daemon to the plugin, cannot be written:"
                f" {error.strerror}",
                hint=f"listen in {PLUGIN_SOCKETS}, where it looks first",
            ) from error
        try:
            self._expect_to_be_found(name, Address.parse(address, tls), folder)
        except BaseException:
            self.close()
            raise

    def _expect_to_be_found(self, name: str, address: Address, folder: str) -> None:
        found = find(name, specs=(folder,))
        if found != address:
            raise InUseError(
                f"a daemon that looks for {name} would find {found} and never {address}",
                hint=f"remove what leads there, or choose another name; {self.path} comes later",
            )

    def _clear_stale(self) -> None:
        there = _text(self.path)
        if there is None or there == self._text:
            return
        try:
            address = read_spec(self.path)
        except GraphDriverError as error:
            raise InUseError(f"{error}, nor is it ours", hint="move it away") from error
        trouble = _why_nobody_answers(address)
        if trouble is None:
            raise InUseError(
                f"{self.path} is of another plugin, at {address}, which answers or may do so",
                hint="stop that one first, or choose another name",
            )
        _log.warning("replacing %s, left behind by a plugin at %s: %s", self.path, address, trouble)

    def close(self) -> None:
        """Remove the file, if it is still ours; never raises. May be repeated."""
        try:
            above = os.path.dirname(self.path)
            with contextlib.suppress(FileNotFoundError), locked(above, TIMEOUT_AT_STOP):
                # The next process writes the same, and may have done so already.
                if _identity(self.path) == self._made and _text(self.path) == self._text:
                    os.unlink(self.path)
        except (GraphDriverError, OSError) as error:  # of both errors the first must be known
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
    """Tell why nobody can be at an address; None if somebody is, or may be."""
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
