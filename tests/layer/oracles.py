"""Other programs that read tars: what GNU tar and bsdtar make of one, in our words.

They list, and never extract: what they are given may be hostile. bsdtar is asked to write what it read
as a PAX archive, which Python's tarfile then reads, since its listings leave too much out.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import EntryType
from graphdriver.layer.tar.reader import TarReader
from tests.support.ground import require

MOST = 16 << 20
"""How much of what bsdtar writes is looked at."""

KINDS = {
    "-": "file",
    "h": "hard link",
    "l": "link",
    "c": "character device",
    "b": "block device",
    "d": "folder",
    "p": "FIFO",
}
OURS = dict(zip(EntryType, KINDS.values(), strict=True))
THEIRS = dict(zip(b"0123456", KINDS.values(), strict=True)) | {ord("7"): "file"}


def require_known_bsdtar() -> None:
    """Go on only with a bsdtar whose differences are listed: 3.8 has others than 3.6 and 3.7."""
    printed = subprocess.run(["bsdtar", "--version"], capture_output=True, text=True).stdout
    version = re.match(r"bsdtar (\d+)\.(\d+)", printed)
    known = version is not None and (int(version[1]), int(version[2])) < (3, 8)
    require(known, f"the listed differences are those of bsdtar 3.6 and 3.7, not of {printed:.20}")


@dataclass
class Read:
    """What a program read: facts of each entry, and what it complained of in the end, if it did."""

    entries: list[dict[str, object]] = field(default_factory=list)
    complaint: str = ""


def ours(data: bytes) -> Read:
    read = Read()
    reader = TarReader(io.BytesIO(data))
    try:
        for entry in reader:
            digest = hashlib.sha256()
            if entry.type is EntryType.FILE and entry.sparse is None:
                for piece in reader.data():
                    digest.update(piece)
            read.entries.append(
                {
                    "name": _clean(entry.name),
                    "kind": OURS[entry.type],
                    "mode": entry.mode,
                    "uid": entry.uid,
                    "gid": entry.gid,
                    "size": entry.size,
                    "time": entry.mtime_ns,
                    "link": entry.link if OURS[entry.type] in {"hard link", "link"} else b"",
                    "device": entry.device,
                    "content": digest.digest() if entry.sparse is None else None,
                    "xattrs": entry.xattrs,
                }
            )
    except BadArchiveError as error:
        read.complaint = error.problem
    return read


_LINE = re.compile(
    r"(.)([rwxsStT-]{9}) +(-?\d+)/(-?\d+) +(\d+(?:,\d+)?) (-?\d+-\d+-\d+ [\d:.]+)"
    r' +"((?:[^"\\]|\\.)*)"(?: (?:->|link to) "((?:[^"\\]|\\.)*)")?'
)


def gnu_tar(data: bytes) -> Read:
    done = subprocess.run(
        ["tar", "-tPvvf", "-", "--numeric-owner", "--full-time", "--quoting-style=c"],
        input=data,
        capture_output=True,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
    )
    read = Read(complaint=_one_line(done.stderr) if done.returncode else "")
    for line in done.stdout.decode("latin-1").splitlines():
        found = _LINE.fullmatch(line)
        if not found:
            read.entries.append({})  # a time or number that it does not show as one
            continue
        kind, mode, uid, gid, size, time, name, link = found.groups()
        device = tuple(map(int, size.split(","))) if "," in size else (0, 0)
        read.entries.append(
            {
                "name": _clean(_unquoted(name)),
                "kind": "file" if kind == "C" else KINDS.get(kind, kind),
                "mode": _mode(mode),
                "uid": int(uid),
                "gid": int(gid),
                "size": int(size) if kind in "-C" else 0,
                "time": _nanoseconds(time),
                "link": _unquoted(link or ""),
                "device": device,
            }
        )
    return read


def bsdtar(data: bytes) -> Read:
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        with subprocess.Popen(
            ["bsdtar", "-cf", "-", "-P", "--format=pax", "@-"],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ) as process:
            assert process.stdout is not None
            written = process.stdout.read(MOST)
            if len(written) == MOST:  # what the tar lacks of a file is made up with zeros
                process.kill()
        errors.seek(0)
        read = Read(complaint=_one_line(errors.read()) if process.returncode else "")
    try:
        with tarfile.open(
            fileobj=io.BytesIO(written), encoding="utf-8", errors="surrogateescape"
        ) as archive:
            for entry in archive:
                read.entries.append(_described(archive, entry))
    except (tarfile.TarError, EOFError, ValueError) as error:
        read.complaint = read.complaint or f"tarfile cannot read it: {error}"
    return read


def _described(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> dict[str, object]:
    content = archive.extractfile(entry) if entry.isreg() and not entry.issparse() else None
    is_device = entry.ischr() or entry.isblk()
    return {
        "name": _clean(os.fsencode(entry.name)),
        "kind": "file" if entry.issparse() else THEIRS.get(entry.type[0], repr(entry.type)),
        "mode": entry.mode & 0o7777,
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size if entry.isreg() else 0,
        "time": int(Decimal(entry.pax_headers.get("mtime", str(int(entry.mtime)))) * 10**9),
        "link": os.fsencode(entry.linkname) if entry.issym() or entry.islnk() else b"",
        "device": (entry.devmajor, entry.devminor) if is_device else (0, 0),
        "content": hashlib.sha256(content.read() if content else b"").digest()
        if not entry.issparse()
        else None,
    }


def _clean(name: bytes) -> bytes:
    return name.rstrip(b"/") or name[:1]


def _one_line(text: bytes) -> str:
    return text.decode("latin-1").strip().replace("\n", " ")


def _mode(letters: str) -> int:
    mode = 0
    for at, (letter, bit) in enumerate(zip(letters, "rwxrwxrwx", strict=True)):
        if letter == bit or letter in "st":
            mode |= 0o400 >> at
        if letter in "sStT":
            mode |= (0o4000, 0o2000, 0o1000)[at // 3]
    return mode


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def _unquoted(text: str) -> bytes:
    letters = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "v": "\v", "f": "\f"}

    def plain(found: re.Match[str]) -> str:
        said = found[1]
        return chr(int(said, 8)) if said[0].isdigit() else letters.get(said, said)

    return re.sub(r"\\([0-7]{1,3}|.)", plain, text).encode("latin-1")
