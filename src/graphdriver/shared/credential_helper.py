"""Credential helpers of Docker: programs ``docker-credential-NAME`` that keep passwords of registries.

The protocol (docker/docker-credential-helpers, README): the argument is ``get``, the input is the
registry's name, the output is JSON with Username and Secret. A helper that knows no password prints
"credentials not found in native keychain" and ends with 1.

A helper is found on ``PATH`` only, and runs with the privileges of this process. Nothing that it prints
is shown or logged: it may be a password.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from typing import Final

from graphdriver.errors import UnsupportedError

TIMEOUT: Final = 20.0
"""How long a helper may take, in seconds."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST: Final = 1 << 20
"""The most bytes of an answer; tokens of clouds have some thousands."""
_NOT_FOUND: Final = b"credentials not found in native keychain"


def ask_helper(name: str, server: str) -> tuple[str, str] | None:
    """Return the user name and the secret that a helper keeps for a registry; None if it has none.

    Args:
        name: the helper's name, as in Docker's configuration: without ``docker-credential-``.
        server: the registry's host, with its port if it has one.

    Raises:
        UnsupportedError: there is no such helper, or it fails; the text shows nothing of its output.
    """
    if not _NAME.fullmatch(name):
        raise UnsupportedError(
            f"{name!r:.80} cannot be a credential helper's name",
            hint='give what follows "docker-credential-" in the name of a program on PATH',
        )
    program = f"docker-credential-{name}"
    path = shutil.which(program)
    if not path or not os.path.isabs(path):
        raise UnsupportedError(
            f"the credential helper {program} is not on the PATH of this process",
            hint="install it, or log in without it",
        )
    code, output = _run(path, program, server)
    if code and _NOT_FOUND in output:
        return None
    hint = f"see what it prints: echo {server} | {program} get"
    if code:
        raise UnsupportedError(
            f"the credential helper {program} ends with {code} for {server}", hint=hint
        )
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        answer = json.loads(output)
        user, secret = answer["Username"], answer["Secret"]
        if isinstance(user, str) and isinstance(secret, str):
            return user, secret
    raise UnsupportedError(
        f"the credential helper {program} gives no user name and secret for {server}", hint=hint
    )


def _run(path: str, program: str, server: str) -> tuple[int, bytes]:
    """Run a helper; return its exit code, and what it prints."""
    try:
        process = subprocess.Popen(
            [path, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            umask=0o077,  # that of a process which serves a driver is 0
            start_new_session=True,
        )
    except OSError as error:
        raise UnsupportedError(
            f"the credential helper {program} cannot be run: {error.strerror}"
        ) from error
    end = time.monotonic() + TIMEOUT
    try:
        return _output_of(process, program, server, end)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            process.wait()


def _output_of(
    process: subprocess.Popen[bytes], program: str, server: str, end: float
) -> tuple[int, bytes]:
    assert process.stdin
    assert process.stdout
    output = bytearray()
    with process.stdout as stdout:
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(server.encode())  # a pipe holds it, whether it is read or not
        waiting = select.poll()
        waiting.register(stdout, select.POLLIN)
        while waiting.poll(max(end - time.monotonic(), 0) * 1000):
            piece = os.read(stdout.fileno(), 1 << 16)
            if not piece:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(max(end - time.monotonic(), 0)), bytes(output)
                break
            output += piece
            if len(output) > _LONGEST:
                raise UnsupportedError(f"the credential helper {program} prints too much")
    raise UnsupportedError(
        f"the credential helper {program} gave no answer in {TIMEOUT:g} s",
        hint="a service cannot use a helper that asks a person",
    )
