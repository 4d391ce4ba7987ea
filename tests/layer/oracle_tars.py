"""Tars that several programs shall read alike: honest ones, attacks, and both with something changed.

They are the same every time: what is changed is chosen by generators with fixed seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from graphdriver.conformance.plugin import tars
from tests.layer import mutations
from tests.layer.hostile.corpus import CORPUS
from tests.layer.mutations import Mutation, mutate

SEED = 20_141_211
MUTATIONS = 12
LARGEST = 64 << 10


def honest() -> dict[str, bytes]:
    """Return tars of every dialect, as tar programs write them."""
    long_name = b"/".join([b"d" * 60] * 5)
    times = [(b"mtime", b"1600000000.123456789")]
    sparse = [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.numblocks", b"2")]
    sparse.append((b"GNU.sparse.map", b"0,3,512,2"))
    return {
        "empty": tars.tar(),
        "no trailer": tars.file(b"f"),
        "v7": tars.tar(tars.file(b"f", magic=tars.V7), tars.header(b"d/", b"\0", magic=tars.V7)),
        "ustar": tars.tar(
            tars.directory(b"d/", mode=0o1755, uid=3, gid=4, mtime=1_600_000_000),
            tars.file(b"d/f", b"x" * 700, mode=0o4755, uid=1000, gid=1001),
            tars.header(b"f", prefix=b"d/e"),
            tars.symlink(b"l", b"d/f"),
            tars.hard_link(b"h", b"d/f"),
            tars.header(b"c", b"3", device=(1, 3), mode=0o666),
            tars.header(b"b", b"4", device=(259, 70_000)),
            tars.header(b"p", b"6"),
            tars.header(b"t", b"7"),
        ),
        "gnu": tars.tar(
            tars.gnu_long(b"L", long_name),
            tars.file(b"", b"long", magic=tars.GNU),
            tars.gnu_long(b"K", long_name),
            tars.symlink(b"l", long_name, magic=tars.GNU),
            tars.file(b"big", b"", uid=1 << 31, gid=1 << 22, mtime=1 << 34, magic=tars.GNU),
            tars.file(b"early", b"", mtime=-5, magic=tars.GNU),
        ),
        "pax": tars.tar(
            tars.pax([(b"path", long_name), *times]),
            tars.file(b"f", b"long"),
            tars.pax([(b"linkpath", long_name)]),
            tars.symlink(b"l", long_name),
            tars.pax([(b"uid", b"3000000"), (b"gid", b"4000000"), (b"mtime", b"-1.5")]),
            tars.file(b"g", b""),
            tars.pax([(b"path", "\u00e9\n".encode())]),
            tars.file(b"h", b""),
        ),
        "pax for all": tars.tar(tars.pax([(b"mtime", b"77")], b"g"), tars.file(b"f")),
        "sparse": tars.tar(tars.pax(sparse), tars.file(b"f", b"abcde"), tars.file(b"g")),
        "names that are not UTF-8": tars.tar(
            tars.file(b"\xff"), tars.pax([(b"path", b"\xff/f")]), tars.file(b"g")
        ),
    }


def wicked() -> dict[str, bytes]:
    """Return the corpus of attacks."""
    found = {}
    for maker in CORPUS:
        attack = maker(b"/nowhere/canary")
        tar = tars.tar(*attack.trap, *attack.blow)
        if len(tar) <= LARGEST:
            found[maker.__name__] = tar
    return found


def mutated() -> dict[str, bytes]:
    """Return the same with one to three changes, checksums made right."""
    found = {}
    for name, tar in (honest() | wicked()).items():
        chance = random.Random(f"{SEED} {name}")  # so that a new tar changes nothing for the others
        for number in range(MUTATIONS):
            changes = [_change(chance, len(tar) // 512) for _ in range(chance.randint(1, 3))]
            found[f"{name}, mutation {number}"] = mutate(tar, changes)
    return found


def every() -> Iterator[tuple[str, bytes]]:
    """Yield all, each with a name."""
    for tars_of_a_kind in (honest(), wicked(), mutated()):
        yield from tars_of_a_kind.items()


def _change(chance: random.Random, blocks: int) -> Mutation:
    block = chance.randrange(min(blocks, 8))
    match chance.randrange(4):
        case 0:
            return Mutation(block, chance.randrange(512), chance.randbytes(chance.randint(1, 8)))
        case 1:
            kind = bytes([chance.choice(b"\x0001234567LKxgS")])
            return mutations.in_field(block, "type", kind)
        case 2:
            field = chance.choice(("name", "link", "prefix"))
            return mutations.in_field(block, field, chance.choice((b"n", b"a/b", b"", b"m" * 100)))
        case _:
            numbers = ("mode", "uid", "gid", "size", "mtime", "major", "minor", "real size")
            value = chance.choice(mutations.NUMBERS)
            return mutations.as_number(block, chance.choice(numbers), value, chance.randrange(3))
