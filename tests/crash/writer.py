"""Layers that are made, filled and removed without end, and what was promised of them when."""

from __future__ import annotations

import io
import random
import threading
from dataclasses import dataclass, field

from graphdriver.conformance.kit.tree import Facts
from graphdriver.conformance.plugin import tars
from graphdriver.docker.client import Client
from tests.crash.endless import Endless
from tests.crash.served import TIMEOUT
from tests.crash.story import Tree
from tests.support.two_layers import TIME

CHAIN = 3
"""How many layers stand on each other."""

FILES = 12
LARGEST = 40_000


@dataclass
class Promises:
    """What a plugin has answered so far."""

    created: dict[str, Tree] = field(default_factory=dict)
    """What each layer holds when it is created; in order."""
    filled: dict[str, Tree] = field(default_factory=dict)
    """What it holds when it was applied to."""
    applied: set[str] = field(default_factory=set)
    """Those whose ApplyDiff was answered."""
    removed: set[str] = field(default_factory=set)
    """Those whose Remove was sent, whether or not it was answered."""

    def copy(self) -> Promises:
        return Promises(dict(self.created), dict(self.filled), set(self.applied), set(self.removed))


class Writer(Endless):
    """Calls a plugin from a thread of its own, for the length of a ``with`` block."""

    def __init__(self, client: Client, seed: int) -> None:
        super().__init__()
        self._client = client
        self._random = random.Random(seed)
        self._promises = Promises()
        self._guard = threading.Lock()
        self._another = threading.Semaphore(0)
        self._number = 0

    def promised(self) -> Promises:
        """Return what has been promised by now."""
        self.raise_failure()
        with self._guard:
            return self._promises.copy()

    def wait_for_another(self) -> None:
        """Wait until some layer more than at the last wait was applied."""
        assert self._another.acquire(timeout=TIMEOUT)
        while self._another.acquire(blocking=False):
            pass

    def do_once(self) -> None:
        """Make a chain of layers, some more upon them, and remove some of these."""
        self._number += 1
        number = self._number
        parent = ""
        tree: Tree = {}
        for level in range(CHAIN):
            id = f"layer-{number}-{level}"
            archive, more = self._content(id)
            with self._guard:
                self._promises.created[id] = tree
                tree = self._promises.filled[id] = {**tree, **more}
            self._client.create(id, parent, "", {})
            self._client.apply_diff(id, parent, io.BytesIO(archive))
            with self._guard:
                self._promises.applied.add(id)
            self._another.release()
            if self.stopping.is_set():
                return
            parent = id
        self._create_only(f"bare-{number}", parent, tree)
        if number % 2:
            self._remove(f"bare-{number}")
            self._remove(parent)

    def _create_only(self, id: str, parent: str, tree: Tree) -> None:
        with self._guard:
            self._promises.created[id] = self._promises.filled[id] = tree
        self._client.create(id, parent, "", {})

    def _remove(self, id: str) -> None:
        with self._guard:
            self._promises.removed.add(id)
        self._client.remove(id)

    def _content(self, id: str) -> tuple[bytes, Tree]:
        """Return a layer's tar, and what it adds to a tree, as `record` tells trees."""
        folder = id.encode()
        entries = [tars.directory(folder, mtime=TIME)]
        tree: dict[bytes, Facts] = {folder: _fact(folder, 0o40755, b"", {})}
        for number in range(FILES):
            name = b"%b/%d" % (folder, number)
            data = self._random.randbytes(self._random.randrange(LARGEST))
            note = b"note %d" % number
            entries.append(tars.pax([(b"SCHILY.xattr.trusted.note", note)]))
            entries.append(tars.file(name, data, mode=0o640, uid=number, gid=7, mtime=TIME))
            tree[name] = _fact(name, 0o100640, data, {"trusted.note": note}, number, 7)
        return tars.tar(*entries), tree


def _fact(
    path: bytes, mode: int, data: bytes, attributes: dict[str, bytes], uid: int = 0, gid: int = 0
) -> Facts:
    return Facts(oct(mode), uid, gid, 0, TIME * 10**9, attributes, data, path)
