"""An error that a case did not expect: the call that raised it, and the line."""

from __future__ import annotations

import os
import re
import traceback
from typing import Final

from graphdriver.docker.answers import shown
from graphdriver.docker.protocol import CALLS

_CALLS: Final = {re.sub("(?<!^)(?=[A-Z])", "_", call.name).lower(): call.name for call in CALLS}
"""The names of the calls, by the methods of a driver, and of the client."""

_KIT: Final = "graphdriver.conformance."
_SNAPSHOT_CALLS: Final = f"{_KIT}snapshotter.calls"
_CLIENT: Final = "graphdriver.docker."
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_COPY: Final = re.compile(r"/proc/\d+/fd/\d+")


def call_of(error: BaseException) -> str:
    """Return the call of the contract that raised an error, or a description of the case's own step."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module, name = _module(frame.f_globals), frame.f_code.co_name
        if module == _SNAPSHOT_CALLS:
            return name.capitalize()
        if name in _CALLS and not module.startswith(_KIT):
            return _CALLS[name]
    return "an operation of the case in a layer's directory"


def text_of(error: BaseException) -> str:
    """Return an error's type and text, and the line that raised it if that is the driver's own.

    The lines of a plugin behind a socket are in its log.
    """
    text = f"{type(error).__name__}: {_COPY.sub('LAYER', str(error))}"
    frames = list(traceback.walk_tb(error.__traceback__))
    modules = [_module(frame.f_globals) for frame, _ in frames]
    if any(module.startswith((_CLIENT, _SNAPSHOT_CALLS)) for module in modules):
        return shown(text)
    for frame, line in reversed(frames):
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARY) or "-packages" in file:
            text += f" ({file}, line {line}, in {frame.f_code.co_name})"
            break
    return shown(text)


def _module(names: dict[str, object]) -> str:
    return str(names.get("__name__", ""))
