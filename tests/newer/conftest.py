"""What the engines of Debian 12 cannot: collected by `tests/on_debian` alone, which runs newer ones."""

from __future__ import annotations

from tests.e2e.conftest import busybox, small
from tests.e2e.ground import ELSEWHERE
from tests.snapshotter.conftest import folder, snapshotter

__all__ = ["busybox", "folder", "small", "snapshotter"]

collect_ignore_glob = [] if ELSEWHERE else ["test_*.py"]
