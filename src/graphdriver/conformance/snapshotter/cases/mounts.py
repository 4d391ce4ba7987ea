"""The mounts of snapshots."""

from __future__ import annotations

import os
from typing import Final

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.snapshotter import references
from graphdriver.conformance.snapshotter.kit import Kit

GROUP: Group[Kit] = Group("mounts", "the mounts of snapshots")

_KNOWN: Final = {
    "overlay": frozenset(
        ("lowerdir=", "upperdir=", "workdir=", "redirect_dir=", "index=off", "userxattr")
    ),
    "bind": frozenset(
        (
            *("bind", "rbind", "ro", "rw", "defaults", "remount", "sync", "async", "dirsync"),
            *("dev", "nodev", "suid", "nosuid", "exec", "noexec", "mand", "nomand"),
            *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime"),
            *("strictatime", "nostrictatime"),
        )
    ),
}
"""The options that BuildKit knows of an overlay mount, and containerd of a bind mount; one that ends
with ``=`` may have any value."""


@GROUP.case()
def prepare_is_writable(kit: Kit) -> None:
    """The last mount of a Prepare is never read-only, with or without a parent.

    To newer versions of containerd a read-only last mount means that the layer exists already: they
    then do not unpack it.
    """
    for parent in ("", kit.committed(), kit.committed(kit.committed())):
        mounts = kit.calls.prepare(kit.key("active"), parent)
        expect("whether a mount exists", bool(mounts), True)
        expect("whether the last mount is read-only", "ro" in mounts[-1].options, False)


@GROUP.case()
def mounts_are_repeated(kit: Kit) -> None:
    """Mounts returns the same as Prepare and View did, at every call.

    containerd asks for the mounts again when a container starts, also after its own restart. Other
    mounts would show another directory.
    """
    below = kit.committed()
    active, view = kit.key("active"), kit.key("view")
    for key, returned in (
        (active, kit.calls.prepare(active, below)),
        (view, kit.calls.view(view, below)),
    ):
        for _ in range(2):
            expect("whether Mounts returns the same", kit.calls.mounts(key) == returned, True)


@GROUP.case()
def overlay_mounts_have_their_directories(kit: Kit) -> None:
    """An overlay mount has lowerdir, a writable one also upperdir and workdir, and all exist.

    containerd's differ writes into the upperdir of a single overlay mount, without mounting it. A
    directory that does not exist makes the unpack fail.
    """
    mounts = kit.calls.prepare(kit.key("active"), kit.committed(kit.committed()))
    view = kit.calls.view(kit.key("view"), kit.committed(kit.committed()))
    for one, names in ((mounts[-1], {"lowerdir", "upperdir", "workdir"}), (view[-1], {"lowerdir"})):
        if "overlay" not in one.type:
            continue
        found = dict(option.split("=", 1) for option in one.options if "dir=" in option)
        expect("which directories the mount names", names <= found.keys(), True)
        expect("whether a view names an upperdir", "upperdir" in found, "upperdir" in names)
        for name in names:
            for directory in found[name].split(":"):
                expect(f"whether {name} {directory} is there", os.path.isdir(directory), True)


@GROUP.case(see=references.OPTIONS)
def mount_options_are_known(kit: Kit) -> None:
    """Overlay and bind mounts have only options that BuildKit and containerd know.

    If an overlay mount has an option that BuildKit does not know, BuildKit rejects COPY --link, and
    walks both trees at each export. containerd passes such an option of a bind mount to the kernel,
    which ignores it.
    """
    for parent in ("", kit.committed(), kit.committed(kit.committed())):
        active, view = kit.key("active"), kit.key("view")
        for one in (*kit.calls.prepare(active, parent), *kit.calls.view(view, parent)):
            known = _KNOWN.get(one.type)
            if known is None:  # a program's own, such as fuse3.fuse-overlayfs
                continue
            unknown = [
                option
                for option in one.options
                if option not in known and f"{option.partition('=')[0]}=" not in known
            ]
            expect(f"options of the {one.type} mount that are not known", unknown, [])


@GROUP.case(see=references.READ_ONLY)
def views_are_read_only(kit: Kit) -> None:
    """A view without parent, of one layer or of several, is read-only.

    Many callers mount the same view. What one of them writes, all others see.
    """
    for parent in ("", kit.committed(), kit.committed(kit.committed())):
        mounts = kit.calls.view(kit.key("view"), parent)
        with kit.shown(mounts) as root:
            try:
                (root / "file").touch()
            except OSError:
                continue
        raise Mismatch("writing to a view", "success", "an error")


@GROUP.case()
def root_directory_is_open(kit: Kit) -> None:
    """The root directory of a first snapshot is 0755 and root's.

    A root directory that is not 0755 keeps every user but root out of the container.
    """
    with kit.shown(kit.calls.prepare(kit.key("active")), is_new=True) as root:
        found = root.stat()
    expect("mode of the root directory", oct(found.st_mode & 0o7777), oct(0o755))
    expect("owner of the root directory", (found.st_uid, found.st_gid), (0, 0))


@GROUP.case(see=references.CONTENT)
def views_at_once(kit: Kit) -> None:
    """Several views of one snapshot are mounted at once; one is removed while another stays.

    An image is read by several builds and scanners at once, each with a view of its own. The end of
    one must not unmount another.
    """
    name = kit.committed(write=lambda root: (root / "file").write_text("x"))
    keys = [kit.key("view") for _ in range(2)]
    with kit.shown(kit.calls.view(keys[0], name)) as first:
        with kit.shown(kit.calls.view(keys[1], name)) as second:
            found = [os.listdir(first), os.listdir(second)]
        kit.calls.remove(keys[1])
        expect("content of both", found, [["file"], ["file"]])
        expect("content of the first without the second", os.listdir(first), ["file"])


@GROUP.case()
def hundred_and_twenty_eight_layers(kit: Kit) -> None:
    """In a chain of 128 snapshots, the topmost shows files of the first and the last.

    Mount options that are longer than a page are truncated or rejected.
    """
    name = ""
    for number in range(128):
        text = str(number)
        write = (lambda root: (root / text).touch()) if number in (0, 64, 127) else None  # noqa: B023
        name = kit.committed(name, write)
    expect("content of the topmost", sorted(kit.record(name)), [b"0", b"127", b"64"])
