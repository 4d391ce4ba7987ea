"""Two containerd daemons on one snapshotter are told of in its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.containerd import Containerd
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

WARNING = "two containerd daemons use this snapshotter"


@pytest.mark.root
@pytest.mark.docker
def test_a_second_containerd_on_a_snapshotter_is_told_of_once(folder: Path) -> None:
    places = [folder / "one", folder / "two"]
    for place in places:
        place.mkdir()
    with Snapshotter(folder, "vfs", "-v") as snapshotter:

        def collections() -> int:
            return snapshotter.log.read_text().count("Cleanup")

        first, second = (Containerd(place, snapshotter.address) for place in places)
        with first.running():
            first.sees_the_snapshotter()
            wait_until(collections)
            assert WARNING not in snapshotter.log.read_text()
            with second.running():
                for _ in range(2):
                    before = collections()
                    second.sees_the_snapshotter()
                    wait_until(lambda at=before: collections() > at)  # type: ignore[misc]
        said = snapshotter.log.read_text()
        assert said.count(WARNING) == 1
        assert said.count("(containerd) of user 0 connected") == 2  # each daemon once
