"""Certificates of both sides, made by the very commands that docs/how-to/tls.md shows."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from graphdriver.docker.address.discovery import ClientTLS
from tests.support.documented import block


@dataclass(frozen=True)
class Certificates:
    """PEM files in a directory."""

    folder: Path

    def __getitem__(self, name: str) -> str:
        path = self.folder / f"{name}.pem"
        assert path.exists(), path
        return str(path)

    @property
    def plugin(self) -> tuple[str, str, str]:
        """The plugin's side: the authority, its certificate and its key."""
        return self["ca"], self["plugin"], self["plugin-key"]

    @property
    def daemon(self) -> ClientTLS:
        """The daemon's side."""
        return ClientTLS(self["ca"], self["daemon"], self["daemon-key"])


def make(folder: Path, host: str = "IP:127.0.0.1") -> Certificates:
    """Make an authority and two certificates of it.

    Args:
        folder: their directory; it is made.
        host: the plugin's, as OpenSSL writes a subjectAltName.
    """
    folder.mkdir()
    commands = block("docs/how-to/tls.md", "sh", "openssl req")
    assert "IP:127.0.0.1" in commands
    subprocess.run(
        ["sh", "-euc", commands.replace("IP:127.0.0.1", host)],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return Certificates(folder)
