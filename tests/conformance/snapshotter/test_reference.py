"""The kit for snapshotters on containerd's own overlayfs: where that fails, the kit may be wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.case import Case
from graphdriver.conformance.kit.run import Outcome, run_case
from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.conformance.snapshotter.cases import GROUPS
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.conformance.snapshotter.subject import SocketSubject
from tests.support.containerd import Containerd

DIFFERENT = {
    "metadata/labels-are-kept": "a label without a value is dropped",
    "metadata/bad-filters-are-invalid": "Unknown, with a text that ends in 'invalid argument'",
    "metadata/cleanup-keeps-snapshots": "Unimplemented: containerd keeps Cleanup to itself",
    "content/root-mode-is-kept": "the upper directory of a child has mode 0755 again",
}
"""What containerd's own does otherwise, and how."""


class OwnOverlayfs(Calls):
    """The calls, of containerd itself."""

    snapshotter = "overlayfs"
    metadata = (("containerd-namespace", "conform"), ("containerd-lease", "conform"))


@pytest.fixture(scope="module")
def overlayfs() -> Iterator[SocketSubject]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as directory:
        containerd = Containerd(Path(directory), f"{directory}/nobody.sock", namespace="conform")
        with containerd.running():
            # What a lease holds is no garbage.
            containerd.ctr("leases", "create", "--id", "conform")
            with SocketSubject(
                f"{directory}/c.sock", Path(directory), f"{directory}/root", OwnOverlayfs
            ) as subject:
                yield subject


@pytest.mark.root
@pytest.mark.parametrize("case", [c for g in GROUPS for c in g.cases], ids=lambda case: case.id)
def test_containerds_own_conforms_but_where_it_is_known_to_differ(
    overlayfs: SocketSubject, case: Case[Kit]
) -> None:
    result = run_case(case, overlayfs)
    assert (result.outcome is Outcome.FAILED) == (case.id in DIFFERENT), (
        f"{result.what}: saw {result.saw}, expected {result.expected}"
    )
