"""The keys of objects in a store, and the links between chain IDs and diff IDs.

::

    sha256/ab/abcd….erofs, .json, .headers   image and record of a diff ID, and the headers of its tar
    chained/sha256/ab/abcd….erofs, …         those of a chain ID: the index depends on the layers below
    chains/sha256/ab/abcd….json              the link of a chain ID

Only a directory has the headers: they are for nodes that read images in place.

The first form is that of the directories in ``layer_content_caches`` of containerd's own EROFS
snapshotter, from containerd 2.4 on.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from graphdriver.layer.erofs.record import VERSION

_SHA256: Final = re.compile(r"sha256:([0-9a-f]{64})")
_FORMAT: Final = "" if VERSION == 1 else f".v{VERSION}"
CHAINS: Final = "chains/"
CHAINED: Final = "chained/"
LEASES: Final = "leases/"
LINK_LIMIT: Final = 4096
"""The most bytes of a link, more than any has."""


def is_digest(text: str) -> bool:
    """Tell whether a text is a SHA-256 digest: a store keeps only layers that have one."""
    return _SHA256.fullmatch(text) is not None


def layer_key(diff_id: str) -> str:
    """Return the key of a layer's image and record, without their endings."""
    return _key("", diff_id) + _FORMAT


def chained_key(chain_id: str) -> str:
    """Return the same for a layer whose index depends on the layers below."""
    return _key(CHAINED, chain_id) + _FORMAT


def link_key(chain_id: str) -> str:
    """Return the key of a link."""
    return f"{_key(CHAINS, chain_id)}.json"


def digest_of(key: str) -> str:
    """Return the digest that a key names; ``""`` if it is none of ours."""
    found = re.fullmatch(
        rf"(?:{CHAINS}|{CHAINED})?sha256/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})(?:\.v\d+)?\.(?:erofs|json|headers)",
        key,
    )
    return f"sha256:{found[2]}" if found else ""


def chain_id(parent: str, diff_id: str) -> str:
    """Return the chain ID of a layer (OCI image-spec, "Layer ChainID").

    Args:
        parent: the chain ID of the layer below; ``""`` for a first layer.
        diff_id: the layer's own diff ID.
    """
    if not parent:
        return diff_id
    return f"sha256:{hashlib.sha256(f'{parent} {diff_id}'.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Link:
    """What a chain ID is computed from.

    Attributes:
        parent: the chain ID of the layer below; ``""`` for a first layer.
        diff_id: the layer's own diff ID.
    """

    parent: str
    diff_id: str

    @property
    def chain_id(self) -> str:
        """The chain ID."""
        return chain_id(self.parent, self.diff_id)

    def text(self) -> str:
        """Return the link as JSON."""
        return json.dumps({"diff_id": self.diff_id, "parent": self.parent}, separators=(",", ":"))


def parse_link(data: bytes, chain: str) -> Link:
    """Return the link of a chain ID.

    Raises:
        ValueError: it is damaged, or that of another chain ID; the text says how.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or found.keys() != {"diff_id", "parent"}:
        raise ValueError("it is not a link")
    parent, diff_id = found["parent"], found["diff_id"]
    for one in (diff_id, parent or diff_id):
        if not isinstance(one, str) or not is_digest(one):
            raise ValueError(f"{one!r:.80} is not a SHA-256 digest")
    link = Link(parent or "", diff_id)
    if link.chain_id != chain:
        raise ValueError("its digests do not give this chain ID")
    return link


def _key(prefix: str, digest: str) -> str:
    found = _SHA256.fullmatch(digest)
    if not found:
        raise ValueError(f"{digest!r:.80} is not a SHA-256 digest")
    return f"{prefix}sha256/{found[1][:2]}/{found[1]}"
