"""Objects' keys as tags of a registry.

::

    sha256/ab/abcd….erofs            sha256-abcd…
    sha256/ab/abcd….json             sha256-abcd….json
    chained/sha256/ab/abcd….erofs    chained-sha256-abcd…
    chains/sha256/ab/abcd….json      chains-sha256-abcd….json

Other tags of the repository are left alone.
"""

from __future__ import annotations

import re
from typing import Final

from graphdriver.shared.keys import digest_of
from graphdriver.shared.layers import HEADERS, IMAGE, RECORD

_KEY: Final = re.compile(r"((?:[a-z]+/)?)sha256/[0-9a-f]{2}/(.+)")
_TAG: Final = re.compile(r"((?:[a-z]+-)?)sha256-(([0-9a-f]{2}).+)")


def tag_of(key: str) -> str:
    """Return the tag of an object.

    Raises:
        ValueError: the key is none of a layer's.
    """
    found = _KEY.fullmatch(key)
    if not found or not digest_of(key):
        raise ValueError(f"{key!r:.100} is no key of a layer")
    return f"{found[1].replace('/', '-')}sha256-{found[2].removesuffix(IMAGE)}"


def key_of(tag: str) -> str:
    """Return the key that a tag stands for; ``""`` for a tag that is none of ours."""
    found = _TAG.fullmatch(tag)
    if not found:
        return ""
    ending = "" if tag.endswith((RECORD, HEADERS)) else IMAGE
    key = f"{found[1].replace('-', '/')}sha256/{found[3]}/{found[2]}{ending}"
    return key if digest_of(key) else ""
