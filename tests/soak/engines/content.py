"""What images and containers hold, and random changes of it, in each form that an engine takes.

Only what is below ``data`` is modelled: files ``data/dN/fN`` and symbolic links ``data/dN/lN``. The
content of a file is one line, repeated, so that a shell in a container can write the same bytes.
"""

from __future__ import annotations

import os
import random
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.images import LayerTar

DATA = "data"
DIRECTORIES = 4
FILES = 6
LINKS = 2
MODES = (0o644, 0o600, 0o755, 0o4755)
APPLETS = ("chmod", "head", "ln", "mkdir", "rm", "sh", "sleep", "sync", "wc", "yes")


@dataclass(frozen=True)
class Node:
    """A file, or a symbolic link, of which the mode is 0 and the data the target."""

    mode: int
    data: bytes

    def __repr__(self) -> str:
        return f"{self.mode:o} {len(self.data)} bytes of {self.data[:17]!r}"


Tree = dict[str, Node]


@dataclass(frozen=True)
class Line:
    """The content of a file: a line and how often it is repeated."""

    text: str
    times: int

    @property
    def data(self) -> bytes:
        return f"{self.text}\n".encode() * self.times

    @property
    def command(self) -> str:
        return f"yes {self.text} | head -n {self.times}"


@dataclass
class Change:
    """A change of a tree; its steps come in the order of the members."""

    removed: list[str] = field(default_factory=list)
    """Files and links."""
    emptied: list[str] = field(default_factory=list)
    """Directories that are deleted and made again."""
    linked: dict[str, str] = field(default_factory=dict)
    written: dict[str, tuple[Line, int]] = field(default_factory=dict)
    appended: dict[str, Line] = field(default_factory=dict)

    def of(self, tree: Tree) -> Tree:
        """Return what the change makes of a tree."""
        under = tuple(f"{name}/" for name in self.emptied)
        kept = {
            path: node
            for path, node in tree.items()
            if path not in self.removed and not path.startswith(under)
        }
        kept |= {path: Node(0, target.encode()) for path, target in self.linked.items()}
        kept |= {path: Node(mode, line.data) for path, (line, mode) in self.written.items()}
        for path, line in self.appended.items():
            kept[path] = Node(kept[path].mode, kept[path].data + line.data)
        return kept

    def script(self, tree: Tree) -> str:
        """Return the change of a tree as commands of a shell."""
        lines = ["set -e", "umask 022", "cd /"]
        # With -f, since rm looks up what a link leads to otherwise: see `_below`.
        lines += [f"rm -f {path}" for path in self.removed]
        lines += [f"rm -rf {path}; mkdir {path}" for path in self.emptied]
        for path in (*self.linked, *self.written):
            lines.append(f"mkdir -p {os.path.dirname(path)}; rm -f {path}")
        lines += [f"ln -s {target} {path}" for path, target in self.linked.items()]
        for path, (line, mode) in self.written.items():
            lines.append(f"{line.command} > {path}; chmod {mode:o} {path}")
            lines.append(_has_size(path, len(line.data)))
        for path, line in self.appended.items():
            size = len(tree[path].data) + len(line.data)
            lines += [f"{line.command} >> {path}", _has_size(path, size)]
        return "; ".join(lines)

    def tar(self, tree: Tree) -> bytes:
        """Return the change of a tree as the tar of a layer."""
        tar, after = LayerTar(), self.of(tree)
        changed = (*self.linked, *self.written, *self.appended)
        folders = {os.path.dirname(path) for path in (*self.removed, *changed)} | {*self.emptied}
        tar.folder(DATA)
        for folder in sorted(folders):
            tar.folder(folder)
        for folder in self.emptied:
            tar.add(f"{folder}/.wh..wh..opq")
        for path in self.removed:
            head, name = os.path.split(path)
            if head not in self.emptied:
                tar.add(f"{head}/.wh.{name}")
        for path in changed:
            node = after[path]
            if node.mode:
                tar.add(path, data=node.data, mode=node.mode)
            else:
                tar.symlink(path, node.data.decode())
        return tar.done()

    def write(self, folder: Path) -> None:
        """Write the new files into a directory, such as a build's context."""
        for path, (line, mode) in self.written.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(line.data)
            file.chmod(mode)
        for directory in (folder, *folder.rglob("*")):
            if directory.is_dir():
                directory.chmod(0o755)


def _has_size(path: str, size: int) -> str:
    """Return a command that fails if a file is shorter: on a full disk busybox loses errors."""
    return f"test $(wc -c < {path}) = {size} || {{ echo {path}: cut short >&2; exit 1; }}"


def some_line(chance: random.Random) -> Line:
    times = chance.choice((1, 10, 1000, 5000, chance.choice((5000, 200_000))))
    return Line(f"{chance.getrandbits(64):016x}", times)


def some_change(chance: random.Random, tree: Tree) -> Change:
    """Return a random change of a tree."""
    change = Change()
    directories = sorted({os.path.dirname(path) for path in tree})
    if directories and chance.random() < 0.2:
        change.emptied.append(chance.choice(directories))
    left = [path for path in sorted(tree) if os.path.dirname(path) not in change.emptied]
    for path in left:
        what = chance.random()
        if what < 0.1:
            change.removed.append(path)
        elif what < 0.2 and tree[path].mode and len(tree[path].data) < 1 << 20:
            change.appended[path] = some_line(chance)
    change.written = new_files(chance)
    if chance.random() < 0.3:
        at, name = f"{DATA}/d{chance.randrange(DIRECTORIES)}", f"l{chance.randrange(LINKS)}"
        change.linked[f"{at}/{name}"] = f"f{chance.randrange(FILES)}"
    for path in (*change.written, *change.linked):
        change.appended.pop(path, None)
        if path in change.removed:
            change.removed.remove(path)
    return change


def new_files(chance: random.Random) -> dict[str, tuple[Line, int]]:
    """Return random files."""
    return {
        f"{DATA}/d{chance.randrange(DIRECTORIES)}/f{chance.randrange(FILES)}": (
            some_line(chance),
            chance.choice(MODES),
        )
        for _ in range(chance.randrange(1, 5))
    }


def base(busybox: bytes) -> bytes:
    """Return the lowest layer of each image: a shell and its programs."""
    tar = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    for applet in APPLETS:
        tar.symlink(f"bin/{applet}", "busybox")
    for name in ("proc", "dev", "sys", "etc", "tmp"):
        tar.folder(name)
    return tar.done()


def joined(layers: Iterable[bytes]) -> bytes:
    """Return one tar with the entries of several."""
    return b"".join(
        layer.rstrip(b"\0") + bytes(-len(layer.rstrip(b"\0")) % 512) for layer in layers
    )


def read_tar(path: Path) -> Tree:
    """Return what the tar of a root filesystem holds below ``data``."""
    with tarfile.open(path) as tar:
        return {
            entry.name: _entry(tar, entry)
            for entry in tar
            if entry.name.startswith(f"{DATA}/") and not entry.isdir()
        }


def _entry(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Node:
    if entry.issym():
        return Node(0, entry.linkname.encode())
    file = tar.extractfile(entry)
    assert file, entry
    return Node(entry.mode & 0o7777, file.read())


def read_directory(root: Path) -> Tree:
    """Return what a root filesystem holds below ``data``."""
    return {str(path.relative_to(root)): _file(path) for path in _below(root / DATA)}


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        # A link is never followed: fuse-overlayfs shows a deleted file again, in a directory that was
        # deleted with it and made again, once its name was looked up.
        if not path.is_symlink() and path.is_dir():
            yield from _below(path)
        else:
            yield path


def _file(path: Path) -> Node:
    if path.is_symlink():
        return Node(0, os.fsencode(path.readlink()))
    return Node(stat.S_IMODE(path.lstat().st_mode), path.read_bytes())


def difference(found: Tree, expected: Tree) -> dict[str, tuple[Node | None, Node | None]]:
    """Return where two trees differ: what was found there, and what was expected."""
    return {
        path: (found.get(path), expected.get(path))
        for path in sorted(found.keys() | expected.keys())
        if found.get(path) != expected.get(path)
    }
