"""What drivers share on disk: how a layer appears, how it goes, and what a crash leaves.

A home holds one folder for each layer, named by its ID. What is ours beside them begins with a dot,
which no ID does:

- ``.staging/ID``: a layer that is being made. It becomes ``ID`` by one rename when it is finished.
- ``.trash/NAME``: a layer that is gone. It went there by one rename, and is deleted behind that.

So a layer is there or not, at every instant. What an earlier process left in the two is swept when
the home is taken up. One layer that cannot be deleted never holds up another: it is logged and
tried again at the next start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable, Collection, Iterator

from graphdriver.errors import LayerExistsError, LayerNotFoundError, UnsupportedError
from graphdriver.layer.walk import remove_tree
from graphdriver.linux.folders import make_own

_STAGING = ".staging"
_TRASH = ".trash"

_log = logging.getLogger(__name__)


class Store:
    """The layers' folders in a home.

    Args:
        home: an absolute path; the folder exists.
        group: the gid that may pass through the layers' folders: that of the (remapped) root.
        own: names in the home that the driver uses itself, so that no layer can have them.
        delete: deletes what was a layer's folder, given an open folder and the name in it.
    """

    def __init__(
        self,
        home: str,
        group: int = 0,
        own: Collection[str] = (),
        delete: Callable[[int, bytes], None] = remove_tree,
    ) -> None:
        self.home = home
        self._group = group
        self._own = own
        self._delete = delete
        self._doomed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._remover: threading.Thread | None = None
        self._guard = threading.Lock()
        for name in (_STAGING, _TRASH):
            make_own(os.path.join(home, name), 0o700)
        self._sweep()

    def path(self, id: str) -> str:
        """Return a layer's folder.

        Raises:
            LayerNotFoundError: there is no such layer.
        """
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        return os.path.join(self.home, id)

    def exists(self, id: str) -> bool:
        """Tell whether there is such a layer."""
        # The slash asks for a folder; access(2) takes half the time of a stat(2), of which there is one
        # in every call.
        return id not in self._own and os.access(f"{self.home}/{id}/", os.F_OK)

    def parent_path(self, parent: str) -> str:
        """Return the folder of the layer that another is to stand on.

        Raises:
            LayerNotFoundError: there is no such layer; the text names it as the parent.
        """
        if not self.exists(parent):
            raise LayerNotFoundError(f"parent {parent} does not exist")
        return os.path.join(self.home, parent)

    @contextlib.contextmanager
    def staged(self, id: str) -> Iterator[str]:
        """Make a layer: gives the path of a fresh folder that becomes the layer's when all is well.

        Raises:
            LayerExistsError: there is such a layer.
            UnsupportedError: no layer can have this name.
        """
        if id in self._own:
            raise UnsupportedError(
                f"the driver has a folder of its own called {id}", hint="choose another ID"
            )
        if self.exists(id):
            raise LayerExistsError("the layer exists already", hint="remove it first")
        staged = os.path.join(self.home, _STAGING, id)
        os.mkdir(staged, 0o710)
        try:
            os.chown(staged, -1, self._group)
            yield staged
            # Calls for one ID never overlap, so nobody made it meanwhile; were it there after all,
            # rename(2) refuses, since a layer's folder is never empty.
            os.rename(staged, os.path.join(self.home, id))
        except BaseException:
            self._throw_away(staged)
            raise

    def remove(self, id: str) -> None:
        """End a layer; of one that does not exist, succeed."""
        with contextlib.suppress(FileNotFoundError):
            self._throw_away(os.path.join(self.home, id))

    def settle(self) -> None:
        """Wait until all that was removed so far is deleted."""
        with self._guard:
            remover = self._remover
        if remover:
            remover.join()

    def _throw_away(self, path: str) -> None:
        # Not counted: in containers, an earlier process had this one's number, and its trash may stay.
        name = secrets.token_hex(16)
        os.rename(path, os.path.join(self.home, _TRASH, name))
        self._doom(name)

    def _doom(self, name: str) -> None:
        with self._guard:
            self._doomed.put(name)
            if self._remover is None:
                self._remover = threading.Thread(
                    target=self._delete_doomed, name="remover", daemon=True
                )
                self._remover.start()

    def _delete_doomed(self) -> None:
        trash = os.open(os.path.join(self.home, _TRASH), os.O_RDONLY | os.O_DIRECTORY)
        try:
            while True:
                with self._guard:
                    if self._doomed.empty():
                        self._remover = None
                        return
                name = self._doomed.get()
                try:
                    self._delete(trash, os.fsencode(name))
                except Exception:
                    _log.exception("%s/%s/%s cannot be deleted", self.home, _TRASH, name)
        finally:
            os.close(trash)

    def _sweep(self) -> None:
        for name in os.listdir(os.path.join(self.home, _STAGING)):
            _log.info("sweeping the unfinished layer %s", name)
            self._throw_away(os.path.join(self.home, _STAGING, name))
        for name in os.listdir(os.path.join(self.home, _TRASH)):
            self._doom(name)
