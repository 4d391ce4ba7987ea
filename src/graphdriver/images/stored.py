"""The layers in a shared store as a source, for another store.

Nothing that the first one says is believed: what is put into the other one is made of the tars.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing

from graphdriver.driver import ReadStream
from graphdriver.errors import LayerNotFoundError, MalformedRequestError
from graphdriver.images.layer import ImageLayer
from graphdriver.shared.keys import CHAINS, Link, digest_of, is_digest
from graphdriver.shared.layers import SharedLayers


class StoredImages:
    """The layers in a store.

    Args:
        shared: the layers.
    """

    def __init__(self, shared: SharedLayers) -> None:
        self._shared = shared

    def images(self, digests: Sequence[str]) -> Iterator[Sequence[ImageLayer]]:
        """Yield the layers of chains, the lowest first.

        Args:
            digests: chain IDs and diff IDs of the last layers; all chains, if there are none.

        Raises:
            MalformedRequestError: a digest is none.
            LayerNotFoundError: the store has no such layer, or not all that are below it.
            OSError: the store does not answer.
        """
        if not digests:
            links = self._links()
            below = {one.parent for one in links}
            for one in links:
                if one.chain_id not in below:
                    yield self._chain(one)
            return
        for digest in digests:
            if not is_digest(digest):
                raise MalformedRequestError(
                    f"{digest!r:.80} is no chain ID and no diff ID",
                    hint="give sha256: and 64 hexadecimal digits, as graphdriver share ls shows them",
                )
            link = self._shared.link_of(digest)
            if link:
                yield self._chain(link)
                continue
            links = [one for one in self._links() if one.diff_id == digest]
            if not links:
                raise LayerNotFoundError(
                    f"{digest} is not in {self._shared.store.address}",
                    hint="list its layers with graphdriver share ls",
                )
            yield from map(self._chain, links)

    def _links(self) -> list[Link]:
        """Return all links in the store, in the order of their chain IDs."""
        keys = sorted(one.key for one in self._shared.store.stored() if one.key.startswith(CHAINS))
        found = (self._shared.link_of(digest) for digest in map(digest_of, keys) if digest)
        return [link for link in found if link]

    def _chain(self, last: Link) -> Sequence[ImageLayer]:
        links = [last]
        # It ends: each chain ID is the SHA-256 of the one below.
        while parent := links[-1].parent:
            link = self._shared.link_of(parent)
            if link is None:
                raise LayerNotFoundError(
                    f"{parent}, which is below {last.chain_id}, is not in {self._shared.store.address}",
                    hint="push the image again",
                )
            links.append(link)
        return [ImageLayer(one, self._opener(one)) for one in reversed(links)]

    def _opener(self, link: Link) -> Callable[[], AbstractContextManager[ReadStream]]:
        @contextlib.contextmanager
        def opened() -> Iterator[ReadStream]:
            found = self._shared.find(link)
            if found is None:
                raise LayerNotFoundError(
                    f"{link.chain_id} is not in {self._shared.store.address}",
                    hint="push the image again",
                )
            with closing(self._shared.tar(found)) as tar:
                yield tar

        return opened
