"""Tells of an error that a case did not expect: in which call it was raised, and at which line."""

from __future__ import annotations

import os
import re
import traceback
from typing import Final

import graphdriver
from graphdriver.docker.answers import shown

_CALLS: Final = {
    "init": "Init",
    "create": "Create",
    "create_read_write": "CreateReadWrite",
    "remove": "Remove",
    "get": "Get",
    "put": "Put",
    "exists": "Exists",
    "status": "Status",
    "get_metadata": "GetMetadata",
    "cleanup": "Cleanup",
    "diff": "Diff",
    "changes": "Changes",
    "apply_diff": "ApplyDiff",
    "diff_size": "DiffSize",
    "capabilities": "Capabilities",
}
"""The methods of a driver, and of a client, by the names of the calls."""

_PACKAGE: Final = os.path.dirname(graphdriver.__file__)
_KIT: Final = os.path.join(_PACKAGE, "conformance") + os.sep
_SNAPSHOT_CALLS: Final = os.path.join(_KIT, "snapshots", "calls.py")
_CLIENT: Final = os.path.join(_PACKAGE, "plugin") + os.sep
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_COPY: Final = re.compile(r"/proc/\d+/fd/\d+")


def call_of(error: BaseException) -> str:
    """Return the call of the contract in which an error was raised, or what the case did otherwise."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == _SNAPSHOT_CALLS:
            return frame.name.capitalize()
        if frame.name in _CALLS and not frame.filename.startswith(_KIT):
            return _CALLS[frame.name]
    return "what the case does in a layer's directory"


def text_of(error: BaseException) -> str:
    """Return an error's type, its text, and the line that raised it where that is the plugin's own.

    A plugin behind a socket has its lines in its log.
    """
    text = f"{type(error).__name__}: {_COPY.sub('LAYER', str(error))}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        is_library = frame.filename.startswith(_LIBRARY) and "-packages" not in frame.filename
        if frame.filename.startswith(_CLIENT) or frame.filename == _SNAPSHOT_CALLS:
            break
        if not is_library:
            text += f" ({frame.filename}, line {frame.lineno}, in {frame.name})"
            break
    return shown(text)
