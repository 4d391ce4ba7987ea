"""Plugins with harmful answers; each is a `Proxy` before a plugin that works."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from graphdriver.conformance.plugin import tars
from graphdriver.linux.mount import MS_BIND, mount
from tests.conformance.kit.hostile import Attack, Ground
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request

WRITES_TO_A_NEW_LAYER = "chains/child-has-its-parents-root-directory"
WRITES_TO_A_CHILD = "written/on-applied-layers"
LOOKS_AT_ITS_DIR = "layers/gets-nest"
READS_A_DIFF = "links/names-of-one-file"


class Hostile(Proxy):
    """Hands on what it does not answer itself; ``ground`` is where it does harm."""

    ground: ClassVar[Ground]


ATTACKS: list[Attack[Hostile]] = []


def answers(call: str, name: str, case: str, says: str, make: Callable[[Ground], Answer]) -> None:
    """Add a plugin that answers one call, or each ("*"), with what is made for it."""

    class Answers(Hostile):
        def exchange(self, request: Request) -> Answer:
            if call in ("*", request.call):
                for _ in request.body:
                    pass
                return make(self.ground)
            return super().exchange(request)

    ATTACKS.append(Attack(name, case, says, Answers))


def body(found: object) -> Answer:
    return Answer.of(200, json.dumps(found).encode())


# --- what Get names -------------------------------------------------------------------------------


def names(name: str, says: str, path: Callable[[Ground], object]) -> None:
    """Add a plugin whose Get names a path, for two cases: a new layer, and one that is looked at."""
    for case in (WRITES_TO_A_NEW_LAYER, LOOKS_AT_ITS_DIR):
        group = case.partition("/")[0]
        answers("Get", f"{name} ({group})", case, says, lambda g: body({"Dir": path(g)}))


def mounted(place: str) -> Callable[[Ground], Path]:
    """Mount an empty directory of the host's at a place, and name that."""

    def make(ground: Ground) -> Path:
        target = ground.directory.parent / place
        if not target.is_dir():
            target.mkdir(parents=True)
            mount(str(ground.canary.root / "empty"), str(target), "", MS_BIND, "")
        return target

    return make


def linked(ground: Ground) -> Path:
    """Name a directory of the host's through a link in the home."""
    link = ground.home / "link"
    if not link.is_symlink():
        link.symlink_to(ground.canary.root)
    return link


def overlaid(ground: Ground) -> Path:
    """Mount an overlay that writes to the host, and name that."""
    target = ground.home / "overlaid"
    if not target.is_dir():
        target.mkdir()
        layers = (
            f"lowerdir={ground.home},upperdir={ground.victim}/upper,workdir={ground.victim}/work"
        )
        mount("overlay", str(target), "overlay", 0, layers)
    return target


names("nothing", "Dir", lambda _: None)
names("an empty text", "Dir", lambda _: "")
names("a number", "Dir", lambda _: 7)
names("a list", "Dir", lambda g: [str(g.canary.root)])
names("a relative path", "Dir", lambda _: "empty")
names("the working directory", "Dir", lambda _: ".")
names("the root", "Dir", lambda _: "/")
names("two slashes", "Dir", lambda g: f"/{g.canary.root}/empty")
names("a path that climbs", "Dir", lambda g: f"{g.home}/../canary/empty")
names("a NUL", "Dir", lambda g: f"{g.canary.root}/empty\0x")
names("an endless path", "Dir", lambda g: f"{g.home}/{'d/' * 5000}d")
names("what is not there", "No such file", lambda g: f"{g.home}/absent")
names("a file", "Not a directory", lambda g: f"{g.canary.root}/secret")
names("a directory of the host", "belongs to the host", lambda g: f"{g.canary.root}/folder")
names("an empty directory of the host", "belongs to the host", lambda g: f"{g.canary.root}/empty")
names("/etc", "belongs to the host", lambda _: "/etc")
names("the home", "which holds", lambda g: str(g.home))
names("what the home is in", "which holds", lambda g: str(g.home.parent))
names("where the kit works", "which holds", lambda g: str(g.directory))
names("where the kit was started", "which holds", lambda _: os.getcwd())
names("a link to the host", "without symbolic links", lambda g: str(linked(g)))
names("a path through a link", "without symbolic links", lambda g: f"{linked(g)}/empty")
names("a bind mount in the home", "belongs to the host", lambda g: str(mounted("home/bound")(g)))
names("a bind mount elsewhere", "belongs to the host", lambda g: str(mounted("bound")(g)))
names("what holds a mount", "with a mount", lambda g: str(mounted("home/a/b")(g).parent))
names("an overlay over the host", "upper directory", lambda g: str(overlaid(g)))


class _Child(Hostile):
    """Shows a child in which something of the host's stands where the case writes: d/f, d/g."""

    def spoil(self, root: Path) -> None:
        raise NotImplementedError

    def exchange(self, request: Request) -> Answer:
        if request.call != "Get":
            return super().exchange(request)
        id = json.loads(request.whole())["ID"]
        answer = super().exchange(request)
        self.ground.first = self.ground.first or id
        root = Path(json.loads(answer.whole())["Dir"])
        if id != self.ground.first and not os.path.lexists(root / "spoilt"):
            self.spoil(root)
        return answer


class _LinkedDirectory(_Child):
    def spoil(self, root: Path) -> None:
        (root / "d" / "f").rename(root / "spoilt")
        (root / "d").rmdir()
        (root / "d").symlink_to(self.ground.canary.root / "folder")


class _LinkedFile(_Child):
    def spoil(self, root: Path) -> None:
        (root / "d" / "f").rename(root / "spoilt")
        (root / "d" / "f").symlink_to(self.ground.canary.root / "secret")


class _HardLink(_Child):
    def spoil(self, root: Path) -> None:
        (root / "d" / "f").rename(root / "spoilt")
        (root / "d" / "f").hardlink_to(self.ground.victim / "file")


ATTACKS += [
    Attack("a link in a child", WRITES_TO_A_CHILD, "Too many levels", _LinkedDirectory),
    Attack("a link for a file in a child", WRITES_TO_A_CHILD, "Too many levels", _LinkedFile),
    Attack("a hard link in a child", WRITES_TO_A_CHILD, "outside of the layer", _HardLink),
]


# --- what has no end, or is no answer -----------------------------------------------------------------


def endless(piece: bytes, pause: float = 0.0) -> Iterator[bytes]:
    for _ in itertools.count():
        yield piece
        if pause:
            time.sleep(pause)


def of_size(size: str) -> Answer:
    return Answer(200, iter([b"{}"]), {"Content-Length": size}, ends=True)


def many_headers() -> Answer:
    return Answer(200, iter([b"{}"]), {f"X-{n}": "x" * 60_000 for n in range(200)}, ends=True)


BIG = b'{"Dir": "' + b"x" * (8 << 20) + b'"}'
DEEP = b"[" * 300_000
LOUD = json.dumps({"Err": "\x1b]0;rm -rf /\x07" + "x" * 50_000}).encode()

for call, case in (("Get", LOOKS_AT_ITS_DIR), ("Exists", "activation/connections-are-kept")):
    answers(call, f"a huge body ({call})", case, "", lambda _: Answer.of(200, BIG))
    answers(call, f"a deep body ({call})", case, "", lambda _: Answer.of(200, DEEP))
    answers(
        call, f"an endless body ({call})", case, "", lambda _: Answer(200, endless(b"x" * 65_536))
    )
    answers(call, f"a trickle ({call})", case, "", lambda _: Answer(200, endless(b" ", 0.05)))
    answers(call, f"endless headers ({call})", case, "", lambda _: many_headers())
    answers(call, f"a size below zero ({call})", case, "", lambda _: of_size("-5"))
    answers(call, f"a size of digits ({call})", case, "", lambda _: of_size("9" * 5000))
    answers(call, f"a list ({call})", case, "", lambda _: body([1, 2]))
answers("Get", "a loud refusal", LOOKS_AT_ITS_DIR, "x", lambda _: Answer.of(500, LOUD))
answers("*", "an empty object, always", WRITES_TO_A_NEW_LAYER, "", lambda _: body({}))
answers(
    "*",
    "a success without a word, always",
    WRITES_TO_A_NEW_LAYER,
    "",
    lambda _: Answer.of(200, b""),
)
answers(
    "Status",
    "numbers for text",
    "layers/status-and-metadata-are-text",
    "",
    lambda _: body({"Status": [[1, 2]]}),
)
answers(
    "Exists",
    "a text for a truth",
    "layers/exists-from-create-to-remove",
    "",
    lambda _: body({"Exists": "yes"}),
)
answers(
    "Changes",
    "a kind of change that is none",
    WRITES_TO_A_CHILD,
    "",
    lambda _: body({"Changes": [{"Path": "/", "Kind": 99}]}),
)


# --- what a Diff holds ----------------------------------------------------------------------------


def gives(name: str, says: str, make: Callable[[Ground], Iterator[bytes]]) -> None:
    """Add a plugin whose Diff is what is made for it."""
    answers("Diff", f"a Diff with {name}", READS_A_DIFF, says, lambda g: Answer(200, make(g)))


def climbing(ground: Ground) -> bytes:
    return b"../" * 20 + os.fsencode(ground.canary.root)[1:]


def zipped() -> bytes:
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    return made.getvalue()


gives(
    "a name that climbs",
    "climbs",
    lambda g: iter([tars.tar(tars.pax([(b"path", climbing(g) + b"/new")]), tars.file(b"x"))]),
)
gives(
    "a link that climbs",
    "climbs",
    lambda g: iter(
        [tars.tar(tars.pax([(b"linkpath", climbing(g) + b"/secret")]), tars.hard_link(b"a", b"x"))]
    ),
)
gives("a size below zero", "a Diff", lambda _: iter([tars.header(b"a", size=-(1 << 40)), tars.END]))
gives(
    "a map of gigabytes",
    "a Diff",
    lambda _: iter([tars.header(b"x", b"x", size=1 << 40), tars.END]),
)
gives("a tar of a tar", "a Diff", lambda _: iter([zipped()]))
gives("no end", "over", lambda _: endless(bytes(1 << 20)))
gives("a trickle", "", lambda _: endless(bytes(512), 0.05))
