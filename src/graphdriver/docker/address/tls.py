"""TLS between a daemon and a plugin that listens on TCP: both sides need a certificate.

One authority signs both. The holder of a client certificate from it can become root on this machine.
The oldest version is TLS 1.2, with Docker's own choice of its ciphers: all have forward secrecy and
authenticate what they encrypt. All files are PEM; a key must not have a passphrase.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from typing import Final, NoReturn

from graphdriver.docker.address.discovery import ClientTLS
from graphdriver.errors import UnsupportedError

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2. A distribution's default may allow CBC, too."""


def server_side(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """Return the plugin's side, which serves only callers with a certificate of the authority.

    Raises:
        UnsupportedError: a file is missing or cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # OpenSSL 3 has this default
    # A caller that is killed sends no close_notify. OpenSSL 3 would send it an alert, and the reset in
    # return looks as if the last response was not read. Without the check nothing is lost: HTTP itself
    # shows whether a body is whole.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.verify_mode = ssl.CERT_REQUIRED
    _load_authority(context, ca_file)
    _load_own(context, cert_file, key_file)
    return context


def client_side(files: ClientTLS) -> ssl.SSLContext:
    """Return the daemon's side.

    Raises:
        UnsupportedError: a file is missing or cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.hostname_checks_common_name = (
        False  # as in Go: only the names under subjectAltName count
    )
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif files.ca_file:
        _load_authority(context, files.ca_file)
    else:
        context.load_default_certs()
    if files.cert_file:
        _load_own(context, files.cert_file, files.key_file)
    return context


def expect_agreement(plugin: ssl.SSLContext, daemon: ssl.SSLContext, host: str) -> None:
    """Check both sides by a handshake in memory, so that wrong certificates are found at the start.

    Args:
        plugin: the plugin's side.
        daemon: the daemon's side.
        host: the host to which the daemon connects.

    Raises:
        UnsupportedError: one side rejects the other; the text says which, and why.
    """
    to_plugin, to_daemon = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialling = daemon.wrap_bio(to_daemon, to_plugin, server_hostname=host)
    accepting = plugin.wrap_bio(to_plugin, to_daemon, server_side=True)
    # With TLS 1.3 each side has two turns, with TLS 1.2 three.
    for _ in range(3):
        for side, refusal in (
            (
                dialling,
                f"the daemon, which connects to {host}, would reject the plugin's certificate",
            ),
            (accepting, "the plugin would reject the daemon's certificate"),
        ):
            try:
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
            except ssl.SSLError as error:
                raise UnsupportedError(
                    f"{refusal}: {_reason(error)}",
                    hint="sign both certificates with the same authority, each for its purpose",
                ) from error


def _load_authority(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        _refuse_others(ca_file, "write to", 0o022)
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise UnsupportedError(
            f"the authority's certificate cannot be read from {ca_file}: {_reason(error)}"
        ) from error


def _load_own(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    def refuse_to_ask() -> NoReturn:
        raise UnsupportedError(
            f"the key {key_file} has a passphrase, which cannot be entered here",
            hint="store it without one, readable by root alone",
        )

    try:
        _refuse_others(key_file or cert_file, "read", 0o027)
        context.load_cert_chain(cert_file, key_file or None, refuse_to_ask)
    except OSError as error:
        raise UnsupportedError(
            f"the certificate {cert_file} and its key {key_file} cannot be used: {_reason(error)}"
        ) from error


def _refuse_others(path: str, verb: str, forbidden: int) -> None:
    """Reject a file by which another user, as its owner or by its mode, could become root.

    The group of a key may read it: some systems give keys to services in this way.
    """
    there = os.stat(path)
    if there.st_uid not in (0, os.geteuid()):
        problem = f"belongs to user {there.st_uid}"
    elif there.st_mode & forbidden:
        problem = f"has mode {stat.S_IMODE(there.st_mode):04o}"
    else:
        return
    raise UnsupportedError(
        f"the file {path} {problem}: another user can {verb} it and become root",
        hint=f"make a new key if others could have read it; chown root {path}; chmod 0600 {path}",
    )


def _reason(error: OSError) -> str:
    """Return OpenSSL's reason without the place in its code."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error)
