"""The discovery of a plugin by its name, in a daemon's places and order.

The rules are Docker's ("Docker Plugin API", Plugin discovery). Sockets come first. Then come ``.spec``
files, which hold the address in one line, and ``.json`` files, which also hold the daemon's side of
TLS; in ``/etc/docker/plugins`` before ``/usr/lib/docker/plugins``.
"""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass

from graphdriver.docker.address.listeners import PLUGIN_SOCKETS
from graphdriver.errors import MalformedRequestError, UnreachableError
from graphdriver.files.small_files import read_object, read_text
from graphdriver.linux.unix_sockets import is_socket, refuse_other

PLUGIN_SPECS = "/etc/docker/plugins"
"""Where Docker looks first for files with a plugin's address."""

SPEC_DIRECTORIES = (PLUGIN_SPECS, "/usr/lib/docker/plugins")


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """The daemon's side of TLS: absolute paths of PEM files.

    Without a ``ca_file``, the certificate authorities of the machine are trusted.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True
    """Whether the plugin's certificate must come from that authority, for the host in the address."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a plugin: a unix socket's path, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0
    tls: ClientTLS | None = None

    def __str__(self) -> str:
        if self.path:
            return f"unix://{urllib.parse.quote(os.fsencode(self.path))}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'tcp'}://{host}:{self.port}"

    @classmethod
    def parse(cls, text: str, tls: ClientTLS | None = None) -> Address:
        """Read ``unix:///path``, ``/path``, ``tcp://host:port`` or ``https://host:port``.

        All but a plain path are URLs, as a daemon reads them: ``%20`` is a space. Only ``https://``
        uses TLS, with or without ``tls``.

        Raises:
            MalformedRequestError: the text is not an address.
        """
        scheme, separator, rest = text.strip().partition("://")
        path = text if not separator else ""
        if scheme == "unix":
            path = urllib.parse.unquote(rest, errors="surrogateescape")
        if path.startswith("/") and "\0" not in path:
            return cls(path=path)
        host, _, port = rest.rpartition(":")
        if scheme in ("tcp", "http", "https") and _is_host(host) and _is_port(port):
            side = (tls or ClientTLS()) if scheme == "https" else None
            return cls(host=host.strip("[]"), port=int(port), tls=side)
        raise MalformedRequestError(
            f"{text[:200]!r} is not a plugin's address",
            hint="write unix:///path.sock or tcp://host:port",
        )


def _is_host(text: str) -> bool:
    """Tell whether this can be a host's name or number; no name is looked up."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and text.isprintable() and " " not in text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 1 << 16


def find(
    name: str, sockets: str = PLUGIN_SOCKETS, specs: tuple[str, ...] = SPEC_DIRECTORIES
) -> Address:
    """Return where a plugin listens.

    Raises:
        MalformedRequestError: a plugin cannot have that name.
        UnreachableError: no plugin has that name; the text lists the places.
    """
    if not name or "/" in name or "\0" in name:
        raise MalformedRequestError(
            f"{name!r} is not a plugin's name",
            hint="name a socket's path with --socket" if "/" in name else None,
        )
    for path in (f"{sockets}/{name}.sock", f"{sockets}/{name}/{name}.sock"):
        if is_socket(path):
            return Address(path=path)
    for directory in specs:
        stems = (f"{directory}/{name}", f"{directory}/{name}/{name}")
        for path in (f"{stem}{suffix}" for suffix in (".spec", ".json") for stem in stems):
            if os.path.isfile(path):
                return read_spec(path)
    raise UnreachableError(
        f"plugin {name} not found: no socket in {sockets} and no .spec or .json file in"
        f" {' or '.join(specs)}",
        hint="start it, or name its socket",
    )


def address_of(plugin: str) -> Address:
    """Return where a plugin listens.

    Args:
        plugin: its name, its socket's path or its address.

    Raises:
        MalformedRequestError: a plugin cannot have that name or address.
        UnsupportedError: the path is not a socket.
        UnreachableError: no plugin has that name.
    """
    if "/" not in plugin:
        return find(plugin)
    address = Address.parse(plugin)
    if address.path:
        refuse_other(address.path)
    return address


def read_spec(path: str) -> Address:
    """Read a ``.spec`` or a ``.json`` file.

    Raises:
        UnreachableError: the file is damaged or has no address.
    """
    try:
        if path.endswith(".spec"):
            return Address.parse(read_text(path))
        config = read_object(path)
        tls = config.get("TLSConfig") or {}
        if not isinstance(tls, dict):
            raise ValueError("TLSConfig is not an object")  # noqa: TRY004 - as other damage is
        side = ClientTLS(
            _file(tls, "CAFile"),
            _file(tls, "CertFile"),
            _file(tls, "KeyFile"),
            not tls.get("InsecureSkipVerify", False),
        )
        return Address.parse(_file(config, "Addr"), side)
    except (FileNotFoundError, ValueError, MalformedRequestError) as error:
        raise UnreachableError(
            f"{path} does not describe a plugin: {error}", hint="remove or correct it"
        ) from error


def _file(config: dict[str, object], member: str) -> str:
    value = config.get(member) or ""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{member} is not a path or address")
    return value
