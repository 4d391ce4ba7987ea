"""The mounts of images: each image once, for all that use it.

An image is mounted on the layer's ``applied`` when it is first used, and unmounted some seconds after
its last user is gone: the next layer of an image is applied at once, the next container is often of
the same image, and 100 unmounts take as long as a container's start. Users are layers that are mounted
above it, readers in this process, and snapshots with mounts that containerd makes. Whether an image is
mounted is seen from the directory itself: a mount may have been made by an earlier process, or be
hidden by a later mount on the home (dockerd mounts its data-root on itself when it starts).

An overlay keeps its lower mounts alive by itself. So an image that is unmounted too early, or that
nobody unmounts, harms no mounted layer: it is mounted again, or found again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from graphdriver.drivers.erofs.layout import APPLIED, ImageLayout
from graphdriver.drivers.overlay.mounts import is_mounted
from graphdriver.linux.mount import MNT_DETACH, unmount

LINGER: Final = 10.0
"""How long an image without users stays mounted, in seconds."""

_MOST_MOUNTS: Final = 10
"""How many mounts on one directory are unmounted: another process may have made some by hand."""

_log = logging.getLogger(__name__)


class ImageMounts:
    """The mounts of the images in a home.

    There is one object for a home in a process: two would unmount each other's images.

    Args:
        layout: the home's files.
        mount: mounts the image of a layer, given its ID, on the layer's ``applied``; does nothing for a
            layer that is unpacked there.
    """

    def __init__(self, layout: ImageLayout, mount: Callable[[str], None]) -> None:
        self._layout = layout
        self._mount = mount
        self._users: dict[str, set[str]] = {}
        """The users of each image that has any."""
        self._used: dict[str, tuple[str, ...]] = {}
        """The images of each user."""
        self._idle: dict[str, float] = {}
        """Images that lost their last user, and when; the first one first."""
        self._unmounter: threading.Thread | None = None
        self._readers = itertools.count()
        self._guard = threading.Lock()
        """Guards all of these, and the order of mounts and unmounts with them."""
        self._settled = threading.Condition(self._guard)
        """Wakes the unmounter, when it must end."""

    def note(self, user: str, images: Iterable[str]) -> None:
        """Add a user of images, which stay mounted from now on; mount nothing.

        Args:
            user: any text; a former use by the same user is replaced.
            images: the IDs of their layers.
        """
        with self._guard:
            self._note(user, tuple(images))

    def hold(self, user: str, images: Iterable[str]) -> None:
        """Mount images, and keep them mounted until `release`.

        Args:
            user: any text; a former use by the same user is replaced.
            images: the IDs of their layers.

        Raises:
            GraphDriverError: one cannot be mounted; the user uses none then.
            OSError: likewise.
        """
        images = tuple(images)
        new: list[str] = []
        with self._guard:
            self._note(user, images)
            try:
                for image in images:
                    if not self._is_mounted(image):
                        self._mount(image)
                        new.append(image)
            except BaseException:
                self._release(user)
                for image in new:
                    self._idle.pop(image, None)
                    self._try_to_unmount(image)
                raise

    def release(self, user: str) -> None:
        """Note that a user is gone; images that only it used are unmounted soon."""
        with self._guard:
            self._release(user)

    @contextlib.contextmanager
    def held(self, images: Iterable[str]) -> Iterator[None]:
        """Keep images mounted for the length of a ``with`` block; errors as for `hold`."""
        user = f"reader {next(self._readers)}"
        self.hold(user, images)
        try:
            yield
        finally:
            self.release(user)

    def unmount_unused(self, images: Iterable[str] = ()) -> None:
        """Unmount all images without users now; log what cannot be unmounted.

        An image that a layer needs which is just being mounted has a user.

        Args:
            images: images that an earlier process may have mounted.
        """
        with self._guard:
            for image in (*self._idle, *images):
                if image not in self._users:
                    self._try_to_unmount(image)
            self._idle.clear()
            unmounter, self._unmounter = self._unmounter, None
            self._settled.notify_all()
        if unmounter:  # it ends, even if other calls make images idle meanwhile
            unmounter.join()

    def end(self, image: str) -> None:
        """Unmount an image that is used or not, before its layer is removed.

        Raises:
            OSError: it cannot be unmounted.
        """
        with self._guard:
            self._users.pop(image, None)
            self._idle.pop(image, None)
            self._unmount(image)

    def _is_mounted(self, image: str) -> bool:
        return is_mounted(self._layout.path(image, APPLIED), self._layout.path(image))

    def _note(self, user: str, images: tuple[str, ...]) -> None:
        before = self._used.get(user, ())
        self._used[user] = images
        for image in images:
            self._users.setdefault(image, set()).add(user)
            self._idle.pop(image, None)
        self._drop(user, set(before).difference(images))

    def _release(self, user: str) -> None:
        self._drop(user, self._used.pop(user, ()))

    def _drop(self, user: str, images: Collection[str]) -> None:
        for image in images:
            users = self._users.get(image, set())
            users.discard(user)
            if not users:
                self._users.pop(image, None)
                self._idle[image] = time.monotonic()
        if self._idle and self._unmounter is None:
            self._start_unmounter()

    # --- unmounting -------------------------------------------------------------------------------

    def _start_unmounter(self) -> None:
        name = f"unmounter {self._layout.home}"
        thread = threading.Thread(target=self._unmount_idle, name=name, daemon=True)
        self._unmounter = thread
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            self._unmounter = None
            _log.warning("images are unmounted at once: %s", error)
            for image in self._idle:
                self._try_to_unmount(image)
            self._idle.clear()

    def _unmount_idle(self) -> None:
        """Unmount each image that was idle long enough, until none is idle."""
        while True:
            with self._guard:  # for one image at a time, since a Get may wait
                if self._unmounter is not threading.current_thread():
                    return
                if not self._idle:
                    self._unmounter = None
                    return
                image, since = next(iter(self._idle.items()))
                left = since + LINGER - time.monotonic()
                if left > 0:
                    self._settled.wait(left)
                else:
                    del self._idle[image]
                    self._try_to_unmount(image)

    def _try_to_unmount(self, image: str) -> None:
        try:
            self._unmount(image)
        except OSError as error:
            _log.warning(
                "the image of layer %s stays mounted: %s",
                image,
                error.strerror,
                extra={"graphdriver": {"layer": image}},
            )

    def _unmount(self, image: str) -> None:
        point = self._layout.path(image, APPLIED)
        for _ in range(_MOST_MOUNTS):
            if not self._is_mounted(image):
                return
            try:
                unmount(point)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                unmount(point, MNT_DETACH)  # whoever has a file there open can go on
