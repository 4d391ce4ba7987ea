"""Whether a process can answer calls now, and why not; for whoever starts or watches it."""

from __future__ import annotations

import os

from graphdriver.serving.served_home import ServedHome


def why_not_ready(served: ServedHome) -> str:
    """Return why calls for layers fail now; ``""`` if they can be answered.

    No lock and no call is waited for. The home's filesystem is asked, so this may take as long as that.

    Args:
        served: the driver and its home.
    """
    home = served.initialised_home
    if home is None:
        return f"no home is served; {_FIRST[served.engine]}"
    if not home.is_current():
        return f"{home.path} is not the directory that was served until now"
    try:
        flags = os.statvfs(home.path).f_flag
    except OSError as error:
        return f"{home.path}: {error.strerror}"
    if flags & os.ST_RDONLY:
        return f"{home.path} is on a filesystem that is read-only"
    return ""


_FIRST = {
    "docker": "a daemon sends Init when it starts",
    "containerd": "the root is still being opened",
}
"""What must happen before a home is served."""
