"""The layers that wait to be published: an empty file for each, so that a restart goes on with them.

A file says only that a layer may have to be published. It is made before the layer's snapshot is
committed; what Commit waits for to be on disk includes it. It is removed after the layer was published,
or was found to be no layer to publish. So after a kill or a power cut no committed layer is forgotten,
and one that was published is at most looked at again. Whoever reads the files asks the records of
snapshots what the layer is, and whether it is still there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import Final

from graphdriver.files.directories import make_directories

_LAYER: Final = re.compile(r"[1-9][0-9]{0,17}")
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class Unpublished:
    """The layers that wait to be published, in a directory of files.

    An error of the disk is logged and no more: a pull does not fail because of it.

    Args:
        directory: an absolute path; it is made with the first file.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def add(self, layer: str) -> None:
        """Note that a layer has to be published."""
        try:
            make_directories(self._directory, 0o700)
            os.close(os.open(f"{self._directory}/{layer}", _FLAGS, 0o600))
        except OSError as error:
            _log.warning(
                "the layer %s is published by this process, or not at all: %s", layer, error
            )

    def remove(self, layer: str) -> None:
        """Forget a layer, if it was noted."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._directory}/{layer}")
        except OSError as error:
            _log.warning("the layer %s is looked at again at the next start: %s", layer, error)

    def layers(self) -> list[str]:
        """Return the layers that were noted, oldest first; nothing is known of them but their names."""
        names: list[str] = []
        try:
            with contextlib.suppress(FileNotFoundError):
                names = os.listdir(self._directory)
        except OSError as error:
            _log.warning("layers that wait to be published cannot be read: %s", error)
        return sorted(filter(_LAYER.fullmatch, names), key=int)
