"""What may differ between our plugin and Docker's own driver of the same name, each with its reason.

`tests.e2e.test_side_by_side` fails on any other difference, and on one listed here that does not
occur any more. One thing that differs everywhere is left out of what is compared at all
(`tests.e2e.tars.describe`): Docker's tars repeat a file's type in the upper bits of its mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.engines import DRIVERS


@dataclass(frozen=True)
class Difference:
    """Lines that may stand in one side's result of a step and not in the other's.

    Attributes:
        steps: a regular expression for the names of the steps, as in `tests.e2e.steps`.
        ours: a regular expression for a whole line of ours.
        theirs: likewise for Docker's own driver; nothing if only ours has such lines.
        reason: why it is right.
        drivers: those that it is seen on.
    """

    steps: str
    ours: str
    theirs: str
    reason: str
    drivers: tuple[str, ...] = DRIVERS


ALLOWED = (
    Difference(
        "inspect.*|info",
        r"\.(GraphDriver\.Name|Driver) = \"py-[\w-]+\"",
        r"\.(GraphDriver\.Name|Driver) = \"(vfs|overlay2)\"",
        "it is another driver",
    ),
    Difference(
        "inspect.*",
        r"\.GraphDriver\.Data = \{\}",
        r"\.GraphDriver\.Data = null",
        "neither says anything of a layer; a plugin's way to say so is an empty map",
        ("vfs",),
    ),
    Difference(
        "info",
        r"\.DriverStatus\[\]\[\] = .*",
        r"\.DriverStatus = null",
        "ours tells how it copies",
        ("vfs",),
    ),
    Difference(
        "export.*",
        r"'(long|parents)\b.*' folder mode=755 .*",
        r"'(long|parents)\b.*' folder mode=600 .*",
        "folders that a layer's tar does not name are made 0755 by all newer engines and by ours; "
        "nobody but root could enter those that this daemon makes",
        ("vfs",),
    ),
    Difference(
        "commit",
        r"'.*/\.wh\.[^/]*' file mode=600 owner=0:0 mtime=0\.000 .*",
        r"'.*/\.wh\.[^/]*' file mode=0 owner=0:0 mtime=now .*",
        "a Diff of ours is the same bytes every time, so its whiteouts have a fixed time",
        ("vfs",),
    ),
    Difference(
        "commit",
        r"'.*/\.wh\.[^/]*' file mode=600 owner=0:0 mtime=0\.000 .*",
        r"'.*/\.wh\.[^/]*' file mode=(600|755) owner=0:0 mtime=(now|0\.000)( link=\S*)? .*",
        "the same; and overlayfs has one inode for all whiteouts of a layer, of which Docker's own "
        "makes hard links in the tar",
        ("overlay2",),
    ),
    Difference(
        "export.*|cp of a folder out|commit",
        r"'(folders|\.)(/(deep|made-anew|same-again).*)?' folder mode=2[0-7]+ owner=0:0 mtime=now",
        r"'(folders|\.)(/(deep|made-anew|same-again).*)?' folder mode=755 owner=0:0 mtime=now",
        "a folder that a layer's tar makes something in, but does not name, stays as the layers below "
        "have it, and what is made in it inherits the group; Docker's own overlay2 makes it anew",
        ("overlay2",),
    ),
    Difference(
        "export.*|commit",
        r"'odd' folder mode=755 owner=11:12 mtime=now",
        r"'odd' folder mode=755 owner=0:0 mtime=now",
        "the same, of its owner",
        ("overlay2",),
    ),
    Difference(
        "inspect.*",
        r"\.(Size|VirtualSize|SizeRootFs) = \d+",
        r"\.(Size|VirtualSize|SizeRootFs) = \d+",
        "a layer's size is what its tar's headers say, as on all other drivers; Docker's own overlay2 "
        "counts the length of each link's target too",
        ("overlay2",),
    ),
    Difference(
        "info",
        r"\.DriverStatus\[\]\[\] = .*",
        "",
        "ours tells more: the mount interface, the kernel, whether layers are synced",
        ("overlay2",),
    ),
    Difference(
        "commit",
        r"'files/labelled' .* SCHILY\.xattr\.user\.label=\w+",
        r"'files/labelled' .* sha256=\w+",
        "ours keeps all extended attributes; Docker's drops all but security.capability",
    ),
)
