from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layer.erofs.both_ways import BothWays
from tests.support.filesystems import loop


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An ext4, which stores what layers hold, and refuses what a disk refuses."""
    with loop("ext4", tmp_path_factory.mktemp("disk")) as place:
        yield place


@pytest.fixture
def both(disk: Path) -> Iterator[BothWays]:
    both = BothWays(disk)
    yield both
    both.close()
