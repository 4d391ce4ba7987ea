"""Layers as upper folders and mounts; their diffs are in `graphdriver.drivers.overlay.driver`."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from graphdriver.driver import IDMap, ProtoDriver, Usage, host_root
from graphdriver.drivers.overlay.ground import Ground
from graphdriver.drivers.overlay.layer_files import DIFF, LINKS, WORK, LayerFiles
from graphdriver.drivers.overlay.layer_mounts import MERGED, LayerMounts
from graphdriver.drivers.overlay.lineage import Lineage
from graphdriver.drivers.overlay.options import LayerOptions
from graphdriver.drivers.overlay.reference_counts import Holds
from graphdriver.errors import GraphDriverError, InUseError, UnsupportedError
from graphdriver.layer.overlay.whiteout import Marks
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.layer.tree.inodes import disk_usage
from graphdriver.linux import xattr
from graphdriver.store import Store

MOST_LAYERS: Final = 500
"""How many lower folders a mount may have (OVL_MAX_STACK in the kernel's fs/overlayfs)."""

_SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class OverlayLayers(ProtoDriver):
    """Layers as upper folders, shown by overlay mounts.

    Args:
        survey: looks at a home, given the daemon's options too, and raises an UnsupportedError if it
            cannot serve.
    """

    def __init__(self, survey: Callable[[str, Sequence[str]], Ground]) -> None:
        self._survey = survey

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home; see `graphdriver.ProtoDriver.init`."""
        self.ground = self._survey(home, options)
        self._owner = host_root(uid_maps), host_root(gid_maps)
        self._store = Store(home, self._owner[1], own=(LINKS,))
        self._holds = Holds(home)
        self._family = threading.Lock()
        self._files = LayerFiles(home)
        self._mounts = LayerMounts(home, self.ground, self._files, self._holds)
        self._unread: set[str] = set()
        """Layers of which it could not be read what they stand on."""
        self._lineage = Lineage(self._take_stock())

    def daemon_began(self) -> None:
        """Count each layer that is mounted once: who got it before is gone (`CountsGets`)."""
        self._holds.forget_all()

    def release_leftovers(self) -> None:
        """Unmount layers with a child that nobody uses (`graphdriver.driver.FindsLeftovers`)."""
        for id in self._store.layers():
            point = self._mounts.point_of(id)
            if not self._first_child(id) or not point:
                continue
            try:
                self._mounts.end_unused(id)
            except OSError as error:
                _log.info("%s stays mounted: %s", point, error.strerror)
            else:
                self._holds.set(id, 0)
                _log.info("unmounted %s, which a former daemon had left", point)

    def is_leftover(self, id: str) -> bool:
        """Tell whether a layer has no child and no mount (`graphdriver.driver.FindsLeftovers`)."""
        return not self._first_child(id) and not self._mounts.point_of(id)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Make a layer; see `graphdriver.ProtoDriver.create`."""
        self._create(
            id, parent, LayerOptions.parse(storage_opt, self.ground.driver), volatile=False
        )

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Make a container's layer, the only kind that the home's ``size`` and ``volatile`` are for."""
        options = LayerOptions.parse(storage_opt, self.ground.driver, self.ground.options.size)
        self._create(id, parent, options, volatile=self.ground.options.volatile)

    def _create(self, id: str, parent: str, options: LayerOptions, *, volatile: bool) -> None:
        with self._family:
            lowers = self._lowers_upon(parent) if parent else []
            link = self._files.new_link()
            is_first_child = False
            try:
                with self._store.staged(id) as folder:
                    self._make_diff(os.path.join(folder, DIFF), parent)
                    self._files.write(folder, link, lowers, volatile=volatile)
                    if lowers:
                        os.mkdir(os.path.join(folder, WORK), 0o700)
                        os.chown(os.path.join(folder, WORK), *self._owner)
                    if options.size:
                        options.limit(folder, (DIFF, WORK) if lowers else (DIFF,))
                    self._files.make_link(id, link)
                    if parent:
                        is_first_child = self._files.commit(parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    if is_first_child:  # the parent can be written to still
                        self._files.uncommit(parent)
                    self._files.remove_link(link)
                raise
            self._lineage.add(id, parent)

    def _make_diff(self, path: str, parent: str) -> None:
        os.mkdir(path, 0o755)
        fd = os.open(path, _FOLDER)
        try:
            if parent:
                above = os.open(self._path(parent, DIFF), _FOLDER)
                try:
                    copy_metadata(fd, os.fstat(above), xattr.get_all(above))
                finally:
                    os.close(above)
            else:
                os.fchown(fd, *self._owner)
                os.fchmod(fd, 0o755)
        finally:
            os.close(fd)

    def _lowers_upon(self, parent: str) -> list[str]:
        """Return the links of the layers below one that stands on ``parent``, nearest first."""
        self._store.parent_path(parent)
        lowers = [self._files.link_of(parent), *self._files.lowers(parent)]
        if len(lowers) > MOST_LAYERS:
            raise UnsupportedError(
                f"parent {parent} stands on {len(lowers) - 1} layers, and the kernel takes"
                f" {MOST_LAYERS} in all",
                hint="squash some of them",
            )
        return lowers

    def remove(self, id: str) -> None:
        """End a layer; see `graphdriver.ProtoDriver.remove`."""
        if not self.exists(id):
            with self._family:
                self._end(id)  # perhaps a removal that failed on its way
            return
        self.refuse_if_stood_upon(id)
        # Without the lock: an unmount writes back what the filesystem has not written yet.
        self._end_mount(id)
        with self._family:
            self._refuse_if_stood_upon(id)
            self._end(id)

    def _end(self, id: str) -> None:
        """Remove a layer's directory; the link and the index follow, whether or not that fails."""
        link = None
        with contextlib.suppress(GraphDriverError, OSError):
            link = self._files.link_of(id)
        try:
            self._store.remove(id)
        finally:
            if not self._store.exists(id):
                self._lineage.discard(id)
                self._unread.discard(id)
                with contextlib.suppress(OSError):  # what stays is swept at the next start
                    self._holds.set(id, 0)
                    if link:
                        self._files.remove_link(link)

    def refuse_if_stood_upon(self, id: str) -> None:
        """See that no layer stands on one, which must then stay as it is.

        Raises:
            InUseError: one does; the text names it.
        """
        with self._family:
            self._refuse_if_stood_upon(id)

    def _refuse_if_stood_upon(self, id: str) -> None:
        if child := self._first_child(id):
            raise InUseError(f"the layer {child} stands on it", hint="remove that one first")

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's folder, mounted if it stands on others."""
        self._store.path(id)
        lowers = self._files.lowers(id)
        if not lowers:
            return self._path(id, DIFF)
        point = self._mounts.point_of(id)
        count = self._holds.of(id, bool(point))
        if point and (fault := self._mounts.fault_of(point)):
            _log.warning("%s %s, and is mounted anew", point, fault)
            self._mounts.end(id)
            point = ""
        is_new = not point
        if is_new:
            point = self._mounts.make(id, lowers, mount_label)
        try:
            self._holds.set(id, count + 1)
        except BaseException:
            if is_new:
                self._mounts.end(id)
            raise
        return point

    def put(self, id: str) -> None:
        """Undo one `get`; the last one unmounts."""
        self._store.path(id)
        count = self._holds.of(id, bool(self._mounts.point_of(id)))
        if count > 1:
            self._holds.set(id, count - 1)
            return
        self._end_mount(id)

    def exists(self, id: str) -> bool:
        """Tell whether there is such a layer."""
        return self._store.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell what the layers are on, under Docker's names where it has some."""
        return (
            ("Backing Filesystem", self.ground.backing),
            ("Native Overlay Diff", str(self.ground.is_native).lower()),
            *self.ground.mounter.status(),
            ("Kernel", os.uname().release),
            *self._store.status(),
        )

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return the folders of the layer's mount, as Docker's own overlay2 names them."""
        self._store.path(id)
        told = {
            "MergedDir": self._mounts.point_of(id) or self._path(id, MERGED),
            "UpperDir": self._path(id, DIFF),
            "WorkDir": self._path(id, WORK),
        }
        lowers = self._files.lower_directories(id)
        if lowers:
            told["LowerDir"] = ":".join(lowers)
        return told

    def folders(self, id: str) -> tuple[str, str, list[str]]:
        """Return a layer's own folder, its working folder, and the folders of the layers below."""
        diff, work = os.path.join(self._store.path(id), DIFF), self._path(id, WORK)
        return diff, work, self._files.lower_directories(id)

    def usage(self, id: str) -> Usage:
        """Count the layer's own folder (`graphdriver.driver.CountsUsage`)."""
        with self.opened(id) as fd:
            return disk_usage(fd)

    def cleanup(self) -> None:
        """Unmount all layers, whoever holds them, and wait until what was removed is deleted.

        One that fails holds up no other.
        """
        failed = []
        for id in self._store.layers():
            try:
                self._end_mount(id)
            except OSError as error:
                _log.exception("layer %s cannot be unmounted", id)
                failed.append(f"{id} ({error.strerror})")
        self._store.settle()
        if failed:
            raise GraphDriverError(f"these layers cannot be unmounted: {', '.join(failed)}")
        self._holds.forget_all()
        self.ground.mounter.end()

    # --- what the diffs need ----------------------------------------------------------------------

    def parent_of(self, id: str) -> str:
        """Return the layer that another stands on, or ``""``.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        self._store.path(id)
        return self._files.parent_of(id)

    def is_pristine(self, id: str) -> bool:
        """Tell whether nobody uses the layer, and nothing was written to it."""
        return not os.listdir(self._path(id, DIFF)) and not self._mounts.point_of(id)

    @property
    def marks(self) -> Marks:
        """Where the mounts keep their marks."""
        return self.ground.mounter.marks

    @contextlib.contextmanager
    def opened(self, id: str) -> Iterator[int]:
        """Open a layer's own folder for the length of a ``with`` block.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        fd = os.open(os.path.join(self._store.path(id), DIFF), _FOLDER)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def opened_below(self, id: str) -> Iterator[list[int]]:
        """Open the folders of the layers below one, nearest first."""
        with contextlib.ExitStack() as held:
            fds = []
            for path in self._files.lower_directories(id):
                fds.append(os.open(path, _FOLDER))
                held.callback(os.close, fds[-1])
            yield fds

    def _end_mount(self, id: str) -> None:
        """End a layer's mount, if there is one, and its count."""
        if self._mounts.point_of(id):
            self._mounts.end(id)
        # A volatile layer whose mark stayed is known by its count to be of this boot.
        if not self._mounts.is_marked(id):
            self._holds.set(id, 0)

    # --- the home ---------------------------------------------------------------------------------

    def _take_stock(self) -> dict[str, str]:
        """Find what each layer stands on, sweep what a crash left between, make lost links anew."""
        self._files.sweep_links(self._store.layers())
        parents = {}
        for id in self._store.layers():
            try:
                parents[id] = self._files.parent_of(id)
            except OSError as error:
                if error.errno in _SHORT_OF:
                    raise  # the layer is well, and what it stands on must be known
                self._unread.add(id)
                _log.warning("layer %s cannot be used now: %s", id, error)
            except GraphDriverError as error:
                _log.warning("layer %s cannot be used: %s", id, error)
        return parents

    def _first_child(self, id: str) -> str:
        """Return the child of a layer whose ID comes first; ``""`` if it has no child."""
        for unread in list(self._unread):  # it may be read by now, and stand on this one
            with contextlib.suppress(GraphDriverError, OSError):
                self._lineage.add(unread, self._files.parent_of(unread))
                self._unread.discard(unread)
        return self._lineage.first_child(id)

    def _path(self, *parts: str) -> str:
        return os.path.join(self._store.home, *parts)
