"""Finding a plugin by its name, in the places where a daemon looks, in its order.

The rules are Docker's ("Docker Plugin API", Plugin discovery): sockets first, then ``.spec`` files,
which hold one line, the address, and ``.json`` files, which also hold the daemon's side of TLS; in
``/etc/docker/plugins``, and after that in ``/usr/lib/docker/plugins``.
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
"""Where Docker looks first for the files that name a plugin's address."""

SPEC_FOLDERS = (PLUGIN_SPECS, "/usr/lib/docker/plugins")


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """The daemon's side of TLS: absolute paths of PEM files.

    Without a ``ca_file`` the machine's own authorities are trusted.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True
    """Whether the plugin must show a certificate of that authority, for the host that was dialled."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a plugin listens: a unix socket's path, or host and port."""

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

        All but a plain path are URLs, as a daemon reads them: ``%20`` is a space. TLS is spoken to
        ``https://`` and to nothing else, whatever ``tls`` says.

        Raises:
            MalformedRequestError: it is none of these.
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
            f"{text[:200]!r} is no plugin's address",
            hint="write unix:///path.sock or tcp://host:port",
        )


def _is_host(text: str) -> bool:
    """Tell whether a host can have this name or number; nobody is asked whether there is one."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and text.isprintable() and " " not in text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 1 << 16


def find(
    name: str, sockets: str = PLUGIN_SOCKETS, specs: tuple[str, ...] = SPEC_FOLDERS
) -> Address:
    """Return where a plugin listens.

    Raises:
        MalformedRequestError: no plugin can have that name.
        UnreachableError: there is no plugin of that name; the text lists where it was looked for.
    """
    if not name or "/" in name or "\0" in name:
        raise MalformedRequestError(f"{name!r} is no plugin's name")
    for path in (f"{sockets}/{name}.sock", f"{sockets}/{name}/{name}.sock"):
        if is_socket(path):
            return Address(path=path)
    for folder in specs:
        stems = (f"{folder}/{name}", f"{folder}/{name}/{name}")
        for path in (f"{stem}{suffix}" for suffix in (".spec", ".json") for stem in stems):
            if os.path.isfile(path):
                return read_spec(path)
    raise UnreachableError(
        f"there is no plugin {name}: no socket in {sockets} and no .spec or .json file in"
        f" {' or '.join(specs)}",
        hint="start it, or name its socket",
    )


def address_of(plugin: str) -> Address:
    """Return where a plugin listens, of which somebody gives the name, the socket or the address.

    Raises:
        MalformedRequestError: no plugin can have that name or address.
        UnsupportedError: something else than a socket is at the path.
        UnreachableError: there is no plugin of that name.
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
        UnreachableError: it names no address.
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
            f"{path} describes no plugin: {error}", hint="remove it, or write it anew"
        ) from error


def _file(config: dict[str, object], member: str) -> str:
    value = config.get(member) or ""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{member} is not a path or address")
    return value
