"""What layers hold, as a model: trees in memory, their tars, and what a driver must say of them."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["folder", "file", "link"]
_TYPES: dict[Kind, bytes] = {
    "folder": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "link": tarfile.SYMTYPE,
}
_KINDS: dict[bytes, Kind] = {type: kind for kind, type in _TYPES.items()}


@dataclass(frozen=True)
class Node:
    """A file, a folder, or a link with its target as ``data``. Times are in whole seconds."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    data: bytes = b""


Tree = dict[str, Node]
"""Everything below a root, by relative path."""


def node(chance: random.Random, kind: Kind, size: int | None = None) -> Node:
    data = b""
    if kind == "file":
        if size is None:
            size = chance.choice([0, 1, 511, 512, 513, 3000, 20_000])
        data = chance.randbytes(size)
    elif kind == "link":
        data = b"f%d" % chance.randrange(1000)
    mode = 0o777 if kind == "link" else chance.choice([0o755, 0o644, 0o700, 0o4711, 0o1777])
    # Two times that are too near count as the same.
    when = 10 * chance.randrange(1, 10**8)
    return Node(kind, mode, chance.choice([0, 7]), chance.choice([0, 8]), when, data)


def changed(chance: random.Random, tree: Tree) -> tuple[Tree, bytes, int]:
    """Change a tree at random; return it, the layer's tar, and the sum of the sizes in that."""
    after = dict(tree)
    deleted = set()
    for path in chance.sample(sorted(tree), min(len(tree), chance.randrange(3))):
        if path in after:
            deleted.add(path)
            for below in [one for one in after if one == path or one.startswith(path + "/")]:
                del after[below]
    written: Tree = {}
    for _ in range(chance.randrange(6)):
        folder = f"d{chance.randrange(4)}"
        if folder in deleted:
            continue
        written[folder] = after[folder] = node(chance, "folder")
        kind: Kind = chance.choice(["file", "file", "link"])
        path = f"{folder}/{kind[0]}{chance.randrange(5)}"
        if path not in deleted:
            written[path] = after[path] = node(chance, kind)
    # A folder whose content changes keeps the time that the tar gives it.
    for path in [*written, *deleted]:
        folder = os.path.dirname(path)
        if folder in after:
            written.setdefault(folder, after[folder])
    whiteouts = [path for path in deleted if os.path.dirname(path) in {"", *after}]
    return (
        after,
        tar(written, whiteouts),
        sum(len(n.data) for n in written.values() if n.kind == "file"),
    )


def tar(tree: Tree, whiteouts: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(whiteouts):
            folder, name = os.path.split(path)
            archive.addfile(tarfile.TarInfo(os.path.join(folder, f".wh.{name}")))
        for path, one in sorted(tree.items()):
            entry = tarfile.TarInfo(path)
            entry.type = _TYPES[one.kind]
            entry.mode, entry.uid, entry.gid, entry.mtime = one.mode, one.uid, one.gid, one.mtime
            if one.kind == "link":
                entry.linkname = one.data.decode()
            else:
                entry.size = len(one.data)
            archive.addfile(entry, io.BytesIO(one.data))
    return out.getvalue()


def entries(data: bytes) -> dict[str, Node | None]:
    """Return what a tar holds, whiteouts as None, without its root."""
    found: dict[str, Node | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            path = os.path.normpath(entry.name)
            folder, name = os.path.split(path)
            if name.startswith(".wh."):
                found[os.path.join(folder, name[4:])] = None
            elif path != ".":
                content = entry.linkname.encode()
                if entry.isfile():
                    file = archive.extractfile(entry)
                    assert file
                    content = file.read()
                kind = _KINDS[entry.type]
                found[path] = Node(
                    kind, entry.mode, entry.uid, entry.gid, int(entry.mtime), content
                )
    return found


def compared(one: bytes, other: bytes) -> str:
    """Describe how two tars differ that should not."""
    lines = []
    for data in (one, other):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            lines.append([f"{entry.offset} {entry.get_info()}" for entry in archive])
    return f"{len(one)} and {len(other)} bytes: {sorted(set(lines[0]) ^ set(lines[1]))}"


def on_disk(root: str) -> Tree:
    """Return what a folder holds."""
    found: Tree = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            there = os.lstat(path)
            kind: Kind = "file"
            data = b""
            if stat.S_ISLNK(there.st_mode):
                kind, data = "link", os.readlink(path).encode()
            elif stat.S_ISDIR(there.st_mode):
                kind = "folder"
            else:
                with open(path, "rb") as file:
                    data = file.read()
            mode, when = stat.S_IMODE(there.st_mode), there.st_mtime_ns // 10**9
            found[os.path.relpath(path, root)] = Node(
                kind, mode, there.st_uid, there.st_gid, when, data
            )
    return found


def write(root: str, path: str, one: Node) -> None:
    """Make a file below a folder that is there already, as a container would."""
    full = os.path.join(root, path)
    with open(full, "wb") as file:
        file.write(one.data)
    os.chown(full, one.uid, one.gid)
    os.chmod(full, one.mode)
    os.utime(full, (one.mtime, one.mtime))


MODIFIED, ADDED, DELETED = 0, 1, 2


def changes(tree: Tree, below: Tree) -> dict[str, int]:
    """Return what a tree changes of the one below it, as Docker tells it."""
    found = {}
    for path, one in tree.items():
        old = below.get(path)
        if old is None:
            found[path] = ADDED
        elif one.kind == "folder":
            if replace(one, mtime=0) != replace(old, mtime=0):
                found[path] = MODIFIED
        elif replace(one, data=b"") != replace(old, data=b"") or len(one.data) != len(old.data):
            found[path] = MODIFIED
    for path in below:
        if path not in tree and os.path.dirname(path) in {"", *tree}:
            found[path] = DELETED
    for path in list(found):
        folder = os.path.dirname(path)
        if folder:
            found.setdefault(folder, MODIFIED)
    return found


def diff(tree: Tree, below: Tree) -> dict[str, Node | None]:
    """Return what a Diff must hold."""
    return {
        path: None if kind == DELETED else tree[path] for path, kind in changes(tree, below).items()
    }


def size(tree: Tree, below: Tree) -> int:
    """Return what DiffSize must say."""
    return sum(
        len(tree[path].data) for path, kind in changes(tree, below).items() if kind != DELETED
    )
