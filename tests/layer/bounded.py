"""Work that must do with little memory, as a process of its own: ``python -m tests.layer.bounded``.

Arguments: the case, an empty folder, and ``overlay`` for an upper folder instead of a copy. The memory
that this process may have (RLIMIT_AS) is what it has when all is imported and a few MiB, as many as
the case says. What it prints is what became of the work.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from graphdriver.conformance.plugin import tars
from graphdriver.driver import ReadStream
from graphdriver.errors import GraphDriverError
from graphdriver.layer.change_list import ChangeList
from graphdriver.layer.changes import compare
from graphdriver.layer.overlay.changes import compare_upper
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.pack import pack
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree
from tests.support.pieces import Pieces

MIB = 1 << 20
MANY = 100_000
"""Of things that would take tens of MiB if a hundred bytes were kept of each."""


def ended(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield tars.END


@dataclass
class Case:
    """What to apply: ``below`` to make a parent's tree, then ``tar`` within ``mib``."""

    tar: Callable[[], Iterator[bytes]]
    mib: int = 64
    below: bytes = b""


def one_file() -> Iterator[bytes]:
    yield tars.header(b"f", size=1 << 30)
    for _ in range(1 << 10):
        yield bytes(MIB)


def files_in_place_of_each_other() -> Iterator[bytes]:
    for _ in range(MANY // 1000):
        yield tars.file(b"a/b", b"x") * 500 + tars.directory(b"a/b") * 500


def files_in_an_old_folder() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.file(b"old/%d" % n, b"")


def folders() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.directory(b"d%d" % n)


def folders_that_were_there() -> Iterator[bytes]:
    for _ in range(MANY // 100):
        yield b"".join(tars.directory(b"old/%d" % n) for n in range(100))


def whiteouts() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.whiteout(b"old/.wh.%d" % n)


def opaque_marks() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.whiteout(b"d%d/.wh..wh..opq" % (n % 10))


def hard_links_to_old_files() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.hard_link(b"old/h%d" % n, b"old/0")


def links_that_wait() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.hard_link(b"%d" % n, b"x%d" % n)


def symbolic_links() -> Iterator[bytes]:
    for n in range(MANY):
        yield tars.symlink(b"l%d" % (n % 10), b"%d" % n)


def junk_behind_the_end() -> Iterator[bytes]:
    """CVE-2017-14992."""
    yield tars.END
    for _ in range(1 << 10):
        yield b"junk" * (MIB // 4)


def long_headers() -> Iterator[bytes]:
    for _ in range(100):
        yield tars.pax([(b"comment", b"x" * 1_000_000)])
    yield tars.file(b"f")


def headers_without_end() -> Iterator[bytes]:
    for n in range(MANY // 4):
        yield tars.pax([(b"path", b"%d" % n)])
        yield tars.pax([(b"uid", b"%d" % n)], b"g")
        yield tars.gnu_long(b"L", b"%d" % n)
        yield tars.gnu_long(b"K", b"%d" % n)


def headers_of_many_records() -> Iterator[bytes]:
    data = b"".join(tars.record(b"%05x" % n, b"") for n in range(80_000))
    for _ in range(3):
        yield tars.header(b"x", b"x", size=len(data)) + tars.padded(data) + tars.file(b"f")


def global_headers_of_many_attributes() -> Iterator[bytes]:
    told = [(b"SCHILY.xattr.user.%05x" % n, b"") for n in range(40)]  # as many as there may be
    yield tars.pax(told, b"g")
    for n in range(100):
        yield tars.whiteout(b".wh.%d" % n)


def the_longest_names() -> Iterator[bytes]:
    for n in range(12):
        yield tars.gnu_long(b"L", b"/".join([b"%d" % n] * 9000) + b"/.wh.x") + tars.file(b"", b"")


def sparse_map(version: bytes, pairs: int) -> bytes:
    numbers = [b"%d" % n for pair in range(pairs) for n in (2 * pair, 1)]
    told = [(b"GNU.sparse.realsize", b"%d" % (2 * pairs))]
    data = b"x" * pairs
    if version == b"1.0":
        told += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
        lines = b"".join(number + b"\n" for number in (b"%d" % pairs, *numbers))
        return tars.pax(told) + tars.file(b"f", tars.padded(lines) + data)
    return tars.pax([*told, (b"GNU.sparse.map", b",".join(numbers))]) + tars.file(b"f", data)


def sparse_maps() -> Iterator[bytes]:
    for version, pairs in ((b"0.1", 100_000), (b"1.0", 100_000)):
        for _ in range(3):
            yield sparse_map(version, pairs)


def an_old_sparse_map() -> Iterator[bytes]:
    pairs = 21 * 2000
    block = bytearray(tars.header(b"f", b"S", size=pairs, magic=tars.GNU))
    block[482] = 1
    block[483:495] = tars.octal(2 * pairs, 12)
    yield tars.checked(bytes(block))
    numbers = b"".join(tars.octal(n, 12) for pair in range(pairs) for n in (2 * pair, 1))
    for at in range(0, len(numbers), 504):
        more = at + 504 < len(numbers)
        yield numbers[at : at + 504].ljust(504, b"\0") + bytes([more]) + bytes(7)
    yield tars.padded(b"x" * pairs)


def what_is_kept() -> Iterator[bytes]:
    """No stream for us: it keeps what it made, so that the limit is seen to be one."""
    kept = []
    for _ in range(100):
        kept.append(os.urandom(MIB))
        yield tars.file(b"f")


OLD = b"".join([tars.directory(b"old"), *[tars.file(b"old/%d" % n, b"") for n in range(100)]])
OLD_FOLDERS = b"".join(tars.directory(b"old/%d" % n) for n in range(100))

CASES = {
    case.tar.__name__: case
    for case in (
        Case(one_file, 8),
        Case(files_in_place_of_each_other, 8),
        Case(files_in_an_old_folder, 8, OLD),
        Case(folders, 8),
        Case(folders_that_were_there, 8, OLD_FOLDERS),
        Case(whiteouts, 8, OLD),
        Case(opaque_marks, 8, OLD),
        Case(hard_links_to_old_files, 32, OLD),
        Case(links_that_wait),
        Case(symbolic_links, 8),
        Case(junk_behind_the_end, 8),
        Case(long_headers, 16),
        Case(headers_without_end, 8),
        Case(headers_of_many_records),
        Case(global_headers_of_many_attributes),
        Case(the_longest_names, 16),
        Case(sparse_maps),
        Case(an_old_sparse_map, 16),
        Case(what_is_kept, 16),
    )
}


def many_names(root: int) -> None:
    for n in range(MANY):
        os.close(os.open(b"%d" % n, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root))


def many_changes(root: int) -> None:
    os.mkdir(b"d", dir_fd=root)
    below = os.open(b"d", os.O_RDONLY, dir_fd=root)
    many_names(below)
    os.close(below)


def many_hard_links(root: int) -> None:
    for n in range(MANY // 4):
        os.close(os.open(b"%d" % n, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root))
        os.link(b"%d" % n, b"again%d" % n, src_dir_fd=root, dst_dir_fd=root)


def much_content(root: int) -> None:
    fd = os.open(b"f", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root)
    os.truncate(fd, 1 << 30)
    os.pwrite(fd, b"island", 500 * MIB)
    os.close(fd)


def long_attributes(root: int) -> None:
    for n in range(300):
        fd = os.open(b"%d" % n, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root)
        os.setxattr(fd, "trusted.long", b"x" * 65_000)
        os.close(fd)


def many_levels(root: int) -> None:
    at = os.dup(root)
    for _ in range(3000):
        os.mkdir(b"d" * 200, dir_fd=at)
        below = os.open(b"d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def many_folders_far_down(root: int) -> None:
    """For each of them is kept what led there, which is the same for all."""
    at = os.dup(root)
    for _ in range(500):
        os.mkdir(b"d", dir_fd=at)
        below = os.open(b"d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    for n in range(10_000):
        os.mkdir(b"%d" % n, dir_fd=at)
    os.close(at)


def packed_copied_and_removed(root: int, copy: int, folder: int) -> str:
    stream = pack(root, None)
    packed = 0
    while piece := stream.read(MIB):
        packed += len(piece)
    stream.close()
    copy_tree(root, copy)
    remove_tree(folder, b"tree")
    remove_tree(folder, b"copy")
    return f"packed {packed} bytes"


def compared_and_packed(root: int, copy: int, _folder: int) -> str:
    stream = pack(root, ChangeList(compare(root, copy)))
    packed = 0
    while piece := stream.read(MIB):
        packed += len(piece)
    stream.close()
    return f"packed {packed} bytes"


def compared_as_upper_folder(root: int, copy: int, _folder: int) -> str:
    return f"listed {len(ChangeList(compare_upper(root, [copy])))} changes"


TREES = {
    build.__name__: (build, work, mib)
    for build, work, mib in (
        (many_names, packed_copied_and_removed, 10),
        (many_changes, compared_and_packed, 38),
        (many_hard_links, packed_copied_and_removed, 48),
        (much_content, packed_copied_and_removed, 8),
        (long_attributes, packed_copied_and_removed, 8),
        (many_levels, packed_copied_and_removed, 16),
        (many_folders_far_down, compared_as_upper_folder, 48),
    )
}
"""Trees, what is done with each, and with how many MiB."""


def limit(mib: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (mib << 20),) * 2)


def applied(root: int, archive: ReadStream, form: Callable[[int], Form]) -> str:
    try:
        return str(unpack(archive, root, form=form))
    except GraphDriverError as error:
        return f"refused: {error}"
    except MemoryError:
        return "too much"


def main(name: str, path: str, form: str = "plain") -> None:
    folder = os.open(path, os.O_RDONLY)
    roots = []
    for root in ("tree", "copy"):
        os.mkdir(root, dir_fd=folder)
        roots.append(os.open(root, os.O_RDONLY, dir_fd=folder))
    if name in TREES:
        build, work, mib = TREES[name]
        build(roots[0])
        limit(mib)
        try:
            print(work(roots[0], roots[1], folder))
        except MemoryError:
            print("too much")
    else:
        case = CASES[name]
        upper, lower = roots if form == "overlay" else (roots[0], roots[0])
        unpack(Pieces(iter([case.below])), lower)
        limit(case.mib)
        how = partial(UpperDirectory, lowers=[lower]) if form == "overlay" else PlainTree
        print(applied(upper, Pieces(ended(case.tar())), how))


if __name__ == "__main__":
    main(*sys.argv[1:])
