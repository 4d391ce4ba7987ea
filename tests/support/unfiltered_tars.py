"""Python's tarfile without its filters: the default from 3.14 on, unknown before 3.11.4."""

from __future__ import annotations

import tarfile


def unfiltered(archive: tarfile.TarFile) -> tarfile.TarFile:
    """Let an archive be extracted as it is; return it."""
    if hasattr(tarfile, "fully_trusted_filter"):
        archive.extraction_filter = staticmethod(tarfile.fully_trusted_filter)
    return archive
