"""Docker's record of a tar, ``tar-split.json.gz``, as a daemon writes it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path


def split(data: bytes, path: Path) -> str:
    """Write a tar's record as Docker does; return the digest of the tar."""
    lines: list[dict[str, object]] = []
    at = 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for one in tar:
            size = one.size if one.isreg() else 0
            segment = base64.b64encode(data[at : one.offset_data]).decode()
            lines.append({"type": 2, "payload": segment})
            lines.append({"type": 1, **_named(one.name), "size": size, "payload": "AAAAAAAAAAA="})
            at = one.offset_data + size
    lines.append({"type": 2, "payload": base64.b64encode(data[at:]).decode()})
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _named(name: str) -> dict[str, object]:
    raw = name.encode(errors="surrogateescape")
    try:
        return {"name": raw.decode()}
    except UnicodeDecodeError:
        return {"name_raw": base64.b64encode(raw).decode()}
