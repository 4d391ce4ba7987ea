"""What may differ between our plugin and Docker's own driver of the same name, each with its reason.

`tests.e2e.test_side_by_side` fails on any other difference, and on one listed here that does not
occur any more. One thing that differs everywhere is left out of what is compared at all
(`tests.support.images.describe`): Docker's tars repeat a file's type in the upper bits of its mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.engines import DRIVERS, OVERLAYS

TREES = ("vfs", "btrfs")
"""Drivers whose layers are whole trees."""

KERNEL = ("overlay2", "erofs")
"""Drivers that mount with the kernel's overlayfs."""

FUSE = ("fuse-overlayfs",)

IMAGES = ("erofs",)


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
        r"\.(GraphDriver\.Name|Driver) = \"(vfs|overlay2|btrfs|fuse-overlayfs)\"",
        "it is another driver",
    ),
    Difference(
        "inspect.*",
        r"\.GraphDriver\.Data = \{\}",
        r"\.GraphDriver\.Data = null",
        "neither says anything of a layer; a plugin's way to say so is an empty map",
        TREES,
    ),
    Difference(
        "inspect.*",
        r"\.GraphDriver\.Data\.(ImageFile|LowerDir) = .*/(layer\.erofs|applied)\"",
        r"\.GraphDriver\.Data\.LowerDir = .*",
        "an image stands for what was applied to a layer",
        IMAGES,
    ),
    Difference(
        "export.*",
        r"'(long|parents)\b.*' folder mode=755 owner=0:0 mtime=0\.000",
        r"'(long|parents)\b.*' folder mode=755 owner=0:0 mtime=now",
        "folders that a layer's tar does not name have a fixed time, since an image is a function of"
        " its tar",
        IMAGES,
    ),
    Difference(
        "info",
        r"\.DriverStatus\[\]\[\] = \"ext4\"",
        r"\.DriverStatus\[\]\[\] = \"extfs\"",
        "the kernel has one number for ext2, ext3 and ext4, by which Docker's own names it",
        IMAGES,
    ),
    Difference(
        "info",
        r"\.DriverStatus\[\]\[\] = .*",
        r"\.DriverStatus = null",
        "ours tells how it copies, or what it mounts with, and where",
        ("vfs", *FUSE),
    ),
    Difference(
        "export.*",
        r"'(long|parents)\b.*' folder mode=755 .*",
        r"'(long|parents)\b.*' folder mode=600 .*",
        "folders that a layer's tar does not name are made 0755 by all newer engines and by ours; "
        "nobody but root could enter those that this daemon makes",
        TREES,
    ),
    Difference(
        "commit",
        r"'.*/\.wh\.[^/]*' file mode=600 owner=0:0 mtime=0\.000 .*",
        r"'.*/\.wh\.[^/]*' file mode=0 owner=0:0 mtime=now .*",
        "a Diff of ours is the same bytes every time, so its whiteouts have a fixed time",
        (*TREES, *FUSE),
    ),
    Difference(
        "commit",
        r"'.*/\.wh\.[^/]*' file mode=600 owner=0:0 mtime=0\.000 .*",
        r"'.*/\.wh\.[^/]*' file mode=(600|755) owner=0:0 mtime=(now|0\.000)( link=\S*)? .*",
        "the same; and overlayfs has one inode for all whiteouts of a layer, of which Docker's own "
        "makes hard links in the tar",
        KERNEL,
    ),
    Difference(
        "export.*|cp of a folder out|commit",
        r"'(folders|\.)(/(deep|made-anew|same-again).*)?' folder mode=2[0-7]+ owner=0:0 mtime=now",
        r"'(folders|\.)(/(deep|made-anew|same-again).*)?' folder mode=755 owner=0:0 mtime=now",
        "a folder that a layer's tar makes something in, but does not name, stays as the layers below "
        "have it, and what is made in it inherits the group; Docker's own overlay2 makes it anew",
        KERNEL,
    ),
    Difference(
        "export.*|cp of a folder out|commit",
        r"'(folders|\.)' folder mode=775 owner=0:0 mtime=now",
        r"'(folders|\.)' folder mode=755 owner=0:0 mtime=now",
        "the same; but when the container writes into it, the program loses the folder's set-ID bit",
        FUSE,
    ),
    Difference(
        "export.*|commit",
        r"'odd' folder mode=755 owner=11:12 mtime=now",
        r"'odd' folder mode=755 owner=0:0 mtime=now",
        "the same, of its owner",
        OVERLAYS,
    ),
    Difference(
        "inspect.*",
        r"\.(Size|VirtualSize|SizeRootFs) = \d+",
        r"\.(Size|VirtualSize|SizeRootFs) = \d+",
        "a layer's size is what its tar's headers say, as on all other drivers; Docker's own overlays "
        "count the length of each link's target too",
        OVERLAYS,
    ),
    Difference(
        "info",
        r"\.DriverStatus\[\]\[\] = .*",
        "",
        "ours tells more: the mount interface, the kernel, whether layers are synced",
        KERNEL,
    ),
    Difference(
        "info",
        r"\.DriverStatus\[\]\[\] = .*",
        r"\.DriverStatus\[\]\[\] = \"(Build Version|Btrfs v.*|Library Version|\d+)\"",
        "theirs names the library that it was built with, which ours does not need",
        ("btrfs",),
    ),
    Difference(
        "diff.*",
        r"D /folders/made-anew/first",
        "",
        "it was deleted, with its folder, which was made anew; Docker's own differ misses that here,"
        " so that an image which is committed brings the file back",
        FUSE,
    ),
    Difference(
        "export of the commit",
        "",
        r"'folders/made-anew/first' file .*",
        "the same",
        FUSE,
    ),
    Difference(
        "commit|export of the commit",
        r"'folders/only-entries' folder mode=755 owner=0:0 mtime=now",
        r"'folders/only-entries' folder mode=755 owner=0:0 mtime=1600000000\.000",
        "an entry was made in it and deleted: only its time is changed, which Docker's own loses",
        FUSE,
    ),
    Difference(
        "diff.*",
        "",
        r"C /special/null",
        "devices of a layer below cannot be deleted: ours keeps the program from opening devices of the"
        " machine, which as root it does to copy one up (docs/drivers.md)",
        FUSE,
    ),
    Difference(
        "export.*",
        r"'special/null' character-device mode=666 .*",
        r"'special/null' fifo mode=644 .*",
        "the same",
        FUSE,
    ),
    Difference(
        "commit",
        "",
        r"'special/null' fifo mode=644 .*",
        "the same",
        FUSE,
    ),
    Difference(
        "system df",
        r"two .* 5\.008MB .*",
        r"two .* 5\.009MB .*",
        "the length of the links' targets, rounded",
        FUSE,
    ),
    Difference(
        "commit",
        r"'files/labelled' .* SCHILY\.xattr\.user\.label=\w+",
        r"'files/labelled' .* sha256=\w+",
        "ours keeps all extended attributes; Docker's drops all but security.capability",
    ),
)
