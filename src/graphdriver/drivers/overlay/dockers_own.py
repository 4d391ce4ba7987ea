"""Docker's own overlay2, which has the layout of ours (the docstring of `graphdriver.drivers.overlay`).

Docker's has the device ``backingFsBlockDev`` besides, which each start makes again. Ours has files that
begin with a dot. The source of the rules is moby's ``daemon/graphdriver/overlay2/overlay.go``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from graphdriver.drivers.overlay.layout import DIFF, LINK, LINKS, LOWER, WORK, Layout
from graphdriver.drivers.overlay.reading import stored_layers
from graphdriver.files.directories import opened
from graphdriver.files.small_files import read_text, write_new
from graphdriver.homes import DockersOwn, StoredLayer
from graphdriver.layer.attributes import TRUSTED_OVERLAY, USER_OVERLAY
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import TreeCopy
from graphdriver.layer.tree.walk import Node
from graphdriver.linux import xattr
from graphdriver.store import DELETING, layers_in

_DEVICE: Final = "backingFsBlockDev"
_VOLATILE: Final = ".volatile"
_FILES: Final = (LINK, LOWER, "committed", _VOLATILE)
_OPAQUE: Final = (TRUSTED_OVERLAY + b"opaque", USER_OVERLAY + b"opaque")


class DockersOverlay(DockersOwn):
    """See `graphdriver.homes.DockersOwn`. A unit is all of a layer."""

    def layers(self, home: str) -> Iterator[StoredLayer]:
        """Yield the layers in a home of Docker's own driver."""
        return stored_layers(Layout(home))

    def unit(self, home: str, id: str, *, is_dockers: bool) -> str:
        """Return the path of a layer's directory."""
        return f"{home}/{id}"

    def make_place(self, home: str, id: str, parent: str, group: int, *, is_dockers: bool) -> None:
        """Make the home."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(home, 0o710)
        os.chown(home, -1, group)

    def copy(self, unit: str, target: str, *, is_written: bool) -> None:
        """Copy the layer; one that is never written to gets hard links to its files."""
        found = os.stat(unit)
        os.mkdir(target, stat.S_IMODE(found.st_mode))
        os.chown(target, found.st_uid, found.st_gid)
        for name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                write_new(f"{target}/{name}", read_text(f"{unit}/{name}"), 0o644)
        if os.path.lexists(f"{unit}/{WORK}"):
            os.mkdir(f"{target}/{WORK}", 0o700)
        os.mkdir(f"{target}/{DIFF}", 0o700)
        with opened(f"{unit}/{DIFF}") as original, opened(f"{target}/{DIFF}") as made:
            (_UpperCopy if is_written else _UpperLinks)(original, made).run()

    def complete(self, home: str, *, is_dockers: bool) -> None:
        """Make missing links, and remove what only the other driver has."""
        layout = Layout(home)
        layout.make()
        for id in layers_in(home, (LINKS,)):
            with contextlib.suppress(FileExistsError):
                layout.make_link(id, layout.link_of(id))
        with opened(home) as fd:
            if not is_dockers:
                remove_tree(fd, _DEVICE.encode())
                return
            for name in os.listdir(home):
                if stat.S_IMODE(os.lstat(f"{home}/{name}").st_mode) == DELETING:
                    remove_tree(fd, os.fsencode(name))
                else:
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        os.unlink(f"{home}/{name}/{_VOLATILE}")

    def why_unusable(self, unit: str) -> str:
        """Tell of a volatile layer that was not unmounted: the kernel refuses to mount it again.

        Our driver removes the kernel's mark if nothing was lost (kernel documentation,
        filesystems/overlayfs, "Volatile mount").
        """
        if os.path.isdir(f"{unit}/{WORK}/work/incompat/volatile"):
            return (
                "it was mounted with the option volatile, and not unmounted: start the daemon on the"
                " plugin and stop it again, or remove the container"
            )
        return ""

    def remove(self, directory: str, name: str) -> None:
        """Remove a directory."""
        with opened(directory) as fd:
            remove_tree(fd, os.fsencode(name))


class _UpperCopy(TreeCopy):
    """A copy of an upper directory with its opaque marks; whiteouts are devices, copied as such."""

    def copy_metadata(
        self, fd: int, found: os.stat_result, attributes: Mapping[bytes, bytes]
    ) -> None:
        """Copy the metadata of a directory, and its mark."""
        super().copy_metadata(fd, found, attributes)
        for name in _OPAQUE:
            if name in attributes:
                xattr.set(fd, name, attributes[name])


class _UpperLinks(_UpperCopy):
    """The same, with hard links instead of copies of files."""

    def copy_file(self, node: Node, directory_fd: int) -> None:
        """Link a file, or copy it if it cannot have another name."""
        try:
            os.link(
                *(node.name, node.name),
                src_dir_fd=node.parent_fd,
                dst_dir_fd=directory_fd,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            super().copy_file(node, directory_fd)
