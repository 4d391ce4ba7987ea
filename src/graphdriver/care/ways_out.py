"""What to do about content that was lost: the commands that remove what needs it, and bring it back.

An engine does not fetch a layer again that it still has a record of. So all that needs the layer is
removed first.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from graphdriver.care.engine_checks import DAMAGED_DATABASE
from graphdriver.care.framework_checks import LOST_RECORD
from graphdriver.care.owners import Owner, OwnerKind

WAYS_OF_HOME: Final = {
    LOST_RECORD: (
        'restore the record from a copy, or write {"engine": "docker", "driver": "NAME", "format": 1}'
        " (or containerd) to it, with the name of the driver that the home had"
    ),
    DAMAGED_DATABASE: (
        "stop the snapshotter and restore its database from a copy; or remove the root with all its"
        " layers, and the images of this snapshotter from containerd, and pull them again"
    ),
}
"""What to do about damages of a whole home, by their codes."""


def ways_out(engine: str, owners: Iterable[Owner]) -> list[str]:
    """Return the commands, in their order; without owners a sentence that says what to look for.

    Args:
        engine: ``docker`` or ``containerd``.
        owners: what cannot work any more.
    """
    found = list(dict.fromkeys(owners))
    if engine == "containerd":
        return _of_containerd(found)
    if not found:
        return [
            "remove the images and containers that need these layers, and load the images again"
        ]
    images = [one for one in found if one.kind is OwnerKind.IMAGE]
    names = [name for one in images for name in one.name.split(", ")]
    tagged = [name for name in names if not name.startswith("sha256:")]
    ways = _run("docker rm -f", [one.name for one in found if one.kind is OwnerKind.CONTAINER])
    ways += _run("docker rmi -f", names)
    if any(one.kind is OwnerKind.BUILD_CACHE for one in found):
        ways.append("docker builder prune --all --force")
    ways += [f"docker pull {shlex.quote(name)}" for name in tagged]
    if len(tagged) < len(names):
        ways.append("build or load again the images without a name")
    return ways


def _run(command: str, names: Sequence[str]) -> list[str]:
    return [f"{command} {shlex.join(names)}"] if names else []


def _of_containerd(owners: Sequence[Owner]) -> list[str]:
    spaces = sorted({one.id.partition("/")[0] for one in owners}) or ["NAMESPACE"]
    ways = []
    for space in spaces:
        name = shlex.quote(space)
        ways += [
            f"ctr -n {name} containers rm CONTAINER, for each one on these snapshots",
            f"ctr -n {name} images rm --sync IMAGE; ctr -n {name} images pull --snapshotter NAME IMAGE",
        ]
    return ways
