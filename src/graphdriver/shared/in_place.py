"""What a node does for the layers that it reads in place: it keeps leases, and proves their bytes.

The index of such a layer is made here and its data are the store's, read each time. So the site must
trust the store. Still each tar is read once to its end, in the background: bytes that do not have the
layer's SHA-256 end its use, and so do other headers than those that its index was made from. Later only
the size of its file is looked at, when its lease is renewed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from graphdriver.driver import ReadStream
from graphdriver.errors import GraphDriverError, NotReadyError, UnsupportedError
from graphdriver.files.small_files import read_text, write_whole
from graphdriver.in_place import ReadsInPlace, SharedImage, TarInPlace
from graphdriver.layer.erofs.record import parse
from graphdriver.layer.erofs.stored_tar import PieceSums
from graphdriver.layer.erofs.tar_headers import headers_of
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import IMAGE, FoundLayer, SharedLayers
from graphdriver.shared.leases import RENEWAL, NodeLeases
from graphdriver.shared.store import AwayError, InPlaceStore, NotStoredError

QUIET: Final = 10.0
"""How long no layer was made before tars are read to their ends, in seconds.

The first container of an image reads from the store meanwhile, and shall not wait for the rest.
"""

LONGEST_WAIT: Final = 300.0
"""How long tars wait for that at most, in seconds."""

_PIECE: Final = 1 << 20
_NODE: Final = re.compile(r"[A-Za-z0-9-]{1,60}")

_log = logging.getLogger(__name__)


class InPlace:
    """The layers that a node reads in place.

    Args:
        driver: keeps them.
        store: the store.
        home: returns the directory of the framework's own files in the home; None while none is served.
        found_wrong: called in a thread of its own with a layer, and what is wrong with its tar.
        described: returns how the log names a layer whose tar cannot be read.
    """

    def __init__(
        self,
        driver: ReadsInPlace,
        store: InPlaceStore,
        home: Callable[[], str | None],
        found_wrong: Callable[[str, str], None],
        described: Callable[[str], str] = "layer {}".format,
    ) -> None:
        self.driver = driver
        self._store = store
        self._address = store.address
        self._home = home
        self._found_wrong = found_wrong
        self._described = described
        self._leases = NodeLeases(store)
        self._known: set[str] = set()
        """The layers that were in place when all were looked at."""
        self._is_closed = False
        self._naming = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="in place", daemon=True)

    def start(self) -> None:
        """Renew the leases, and prove what is not proved, from now on."""
        self._thread.start()

    def close(self) -> None:
        """End, without proving the rest; leases stay."""
        self._is_closed = True
        self._wake.set()

    def image(self, layer: FoundLayer) -> SharedImage:
        """Return the image of a layer, for which this node has a lease now; call it inside of `kept`.

        Raises:
            NotStoredError: it was removed meanwhile.
            UnsupportedError: its record is that of another layer.
            NotReadyError: no home is served.
            OSError: the store gives no lease, or does not answer.
        """
        if not (node := self._node()):
            raise NotReadyError("no home is served")
        record, name = layer.record, f"{layer.key}{IMAGE}"
        if f"sha256:{record.sha256.hex()}" != layer.link.diff_id:
            raise UnsupportedError(f"{name} has the record of another layer")
        self._leases.take(name, node)
        self._store.size(name)  # after the lease: it is there, and stays
        return SharedImage(self._address, name, record.text())

    def kept(self, layer: FoundLayer) -> contextlib.AbstractContextManager[None]:
        """Keep this node's lease for a layer while a layer in place is made of it."""
        return self._leases.kept(f"{layer.key}{IMAGE}")

    def removed(self, id: str) -> None:
        """Note that a layer was removed: its lease is given back soon, if no other layer needs it."""
        if id in self._known:
            self._wake.set()

    def prove_soon(self) -> None:
        """Prove what is not proved yet, in the background, soon after the last layer was made."""
        self._wake.set()

    def _node(self) -> str:
        """Return this node's name in stores, which a home keeps; ``""`` while none is served."""
        home = self._home()
        with (
            self._naming
        ):  # a pull and the thread of this object may make the name at the same time
            return _name_in(f"{home}/node") if home else ""

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self.look_after_all()
            except (GraphDriverError, OSError) as error:
                _log.error("the store %s of layers in place failed: %s", self._address, error)
            except Exception:  # whatever it is: without leases others remove what is used here
                _log.exception("the store %s of layers in place failed", self._address)
            if self._wake.wait(RENEWAL):
                self._wait_until_quiet()

    def _wait_until_quiet(self) -> None:
        end = time.monotonic() + LONGEST_WAIT
        self._wake.clear()
        while not self._is_closed and (left := end - time.monotonic()) > 0:
            if not self._wake.wait(min(QUIET, left)):
                return
            self._wake.clear()

    def look_after_all(self) -> None:
        """Renew the lease of each layer, give back those that are left, and prove what is not proved.

        Raises:
            AwayError: the store is not there.
        """
        if not (node := self._node()):
            return
        mine = [one for one in self.driver.tars_in_place() if one.image.directory == self._address]
        self._known = {one.id for one in mine}
        names = {one.image.name for one in mine}
        sizes: dict[str, int] = {}
        for name in names:
            try:
                sizes[name] = self._store.size(name)  # first: no lease for what is gone
                self._leases.take(name, node)
            except AwayError:
                raise
            except (GraphDriverError, NotStoredError, OSError) as error:
                _log.error("%s: no lease for %s: %s", self._address, name, error)
        if self._leases.taken(node) - names:
            self._give_back(node)
        for one in mine:
            if one.wrong or self._is_closed:
                continue
            if too_short := self._why_too_short(one, sizes.get(one.image.name)):
                self._judge(one, too_short)
            elif not one.is_proved:
                self._prove(SharedLayers(self._store), one)

    def _give_back(self, node: str) -> None:
        """Give back the leases that no layer needs, if all layers can be read."""

        def needed() -> set[str]:
            found = [one.image for one in self.driver.tars_in_place(strictly=True)]
            if self._node() != node:
                raise NotReadyError("another home is served now")
            return {image.name for image in found if image.directory == self._address}

        try:
            self._leases.give_back_rest(node, needed)
        except (GraphDriverError, OSError) as error:
            _log.info("%s: leases are not given back now: %s", self._address, error)

    def _why_too_short(self, one: TarInPlace, size: int | None) -> str:
        """Return why an image of this size lacks bytes of its tar; ``""`` if it does not."""
        record = parse(one.image.record)
        end = record.tar_offset + record.tar_size
        if size is None or size >= end:
            return ""
        # The kernel shows zeros in their place.
        return f"{self._address}: {one.image.name} has {size} bytes, and should have {end} at least"

    def _prove(self, shared: SharedLayers, one: TarInPlace) -> None:
        try:
            wrong = self._why_wrong(shared, one)
        except (NotStoredError, OSError) as error:
            _log.error(
                "the tar of %s cannot be read in the store %s, and is not proved: %s",
                self._described(one.id),
                self._address,
                error,
            )
            return
        if not self._is_closed:
            self._judge(one, wrong)

    def _judge(self, one: TarInPlace, wrong: str) -> None:
        self.driver.judge_tar(one.id, wrong)
        if wrong:
            self._found_wrong(one.id, wrong)

    def _why_wrong(self, shared: SharedLayers, one: TarInPlace) -> str:
        """Read a tar to its end; return what is wrong with it, or ``""``."""
        record = parse(one.image.record)
        link = Link("", f"sha256:{record.sha256.hex()}")
        layer = FoundLayer(link, one.image.name.removesuffix(IMAGE), record)
        try:
            with closing(shared.tar(layer)) as tar:
                proof = _Proof(tar, lambda: self._is_closed)
                headers = headers_of(proof, record.tar_size) if one.headers else None
                while proof.read(_PIECE):
                    pass
        except GraphDriverError as error:
            return error.problem
        named = f"{self._address}: {one.image.name}"
        if one.headers != (hashlib.sha256(headers).hexdigest() if headers else ""):
            return f"{named} has a tar with other headers than those in the store"
        # Else a diff of the layer would fail, whose pieces are checked by these.
        if proof.sums.sums() != record.pieces:
            return f"{named} has not the checksums of its record"
        return ""


class _Proof:
    """A tar that is read to its end, or until this process ends, and its checksums."""

    def __init__(self, tar: ReadStream, is_over: Callable[[], bool]) -> None:
        self._tar = tar
        self._is_over = is_over
        self.sums = PieceSums()

    def read(self, n: int, /) -> bytes:
        piece = b"" if self._is_over() else self._tar.read(n)
        self.sums.add(piece)
        return piece


def _name_in(path: str) -> str:
    """Return a node's name, which is kept in a file; one that does not exist, or is none, is made."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if _NODE.fullmatch(name := read_text(path)):
            return name
    host = "".join(c for c in socket.gethostname() if c.isascii() and (c.isalnum() or c == "-"))
    name = f"{host[:40]}-{secrets.token_hex(8)}"
    write_whole(path, name, 0o600)
    return name
