"""A directory through FUSE, which fails on demand: what a network filesystem does when its server does.

The server is a process of its own, which tests control through a file. Names and attributes are never
cached by the kernel; pages are, until a file is opened again. The server has its own clock. A file that
is removed while it is open cannot be read any more (ESTALE), as on NFS.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_READ: Final = struct.Struct("<QQII")
_NONE: Final = bytes(16)
_THREADS: Final = 8
_MOST: Final = 128 << 10
DENIABLE: Final = {
    "lookup": 1,
    "setattr": 4,
    "mkdir": 9,
    "unlink": 10,
    "rename": 12,
    "link": 13,
    "open": 14,
    "read": 15,
    "write": 16,
    "opendir": 27,
    "create": 35,
}
"""Calls that a server refuses who does not know root, by the numbers of FUSE."""

_FLAGS: Final = os.O_ACCMODE | os.O_EXCL | os.O_APPEND | os.O_TRUNC


class FuseStore:
    """A directory that is mounted through FUSE; a context manager that ends it.

    Args:
        backing: the directory.
        point: where it is mounted.
        clock: how many seconds its clock is ahead of this machine's.
    """

    def __init__(self, backing: Path, point: Path, clock: int = 0) -> None:
        self._clock = clock
        self.backing = backing
        self.point = point
        self._control = point.with_name(f"{point.name}.faults")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.point.mkdir(exist_ok=True)
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        while os.path.ismount(self.point) or _is_dead(self.point):
            subprocess.run(["umount", "--lazy", str(self.point)], check=True)

    def start(self) -> None:
        """Mount it, also over one whose server died."""
        self.faults()
        words = [str(self.backing), str(self.point), str(self._control), str(self._clock)]
        ready, end = os.pipe()
        with os.fdopen(ready, "rb") as reader:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fuse_store", *words, str(end)],
                pass_fds=[end],
            )
            os.close(end)
            assert reader.read(1), "the server did not start"

    def kill(self) -> None:
        """Kill the server: everything fails with ENOTCONN."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def faults(self, **faults: Any) -> None:
        """Say what fails from now on, instead of all that failed before.

        Args:
            faults: ``suffix``: the end of the names of the files that are concerned;
                ``open``: the error of opening them; ``read``: the error of reading them;
                ``behind``: from which byte on, for ``read``, ``short`` and ``run``;
                ``short``: whether reads end there as if the file did;
                ``flip``: a byte that reads get wrong;
                ``run``: a program that is run once, before a call is answered;
                ``at``: which call that is: ``open`` or ``read``;
                ``nth``: the first one is 1; for ``run``;
                ``denied``: the names of calls (`DENIABLE`) that are answered with EACCES.
        """
        fresh = self._control.with_suffix(".new")
        fresh.write_text(json.dumps({"suffix": ".erofs", **faults}))
        fresh.rename(self._control)


def _is_dead(point: Path) -> bool:
    try:
        point.stat()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


@contextlib.contextmanager
def fuse_store(backing: Path, point: Path, clock: int = 0) -> Iterator[FuseStore]:
    """Mount a directory through FUSE for the length of a ``with`` block; see `FuseStore`."""
    with FuseStore(backing, point, clock) as store:
        yield store


class _Server:
    """What answers the kernel."""

    def __init__(self, device: int, backing: str, control: str, clock: int) -> None:
        self._device = device
        self._control = control
        self._paths = {1: backing}
        self._nodes = {backing: 1}
        self._guard = threading.Lock()
        self._count = 0
        self._clock = clock
        self._calls: Mapping[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: lambda node, _: self._attributes(self._paths[node]),
            4: self._set_attributes,
            9: self._mkdir,
            10: lambda node, body: self._remove(node, body, os.unlink),
            11: lambda node, body: self._remove(node, body, os.rmdir),
            12: lambda node, body: self._rename(node, body, 8),
            13: self._link,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: self._release,
            20: lambda *_: b"",  # fsync
            26: lambda *_: struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, _MOST, 1, 0, 0, 0),
            27: lambda *_: _NONE,
            28: self._readdir,
            29: lambda *_: b"",
            30: lambda *_: b"",
            35: self._create,
            45: lambda node, body: self._rename(node, body, 16),
        }

    def run(self) -> None:
        """Answer until the end."""
        while True:
            try:
                request = os.read(self._device, _MOST + 4096)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                return
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in (2, 36, 42):  # forget, interrupt: no answer
                continue
            try:
                call = self._calls.get(code)
                if not call:
                    raise OSError(errno.ENOSYS, "")
                self._refuse_denied(code, node)
                problem, answer = 0, call(node, request[_IN.size :])
            except OSError as error:
                problem, answer = error.errno or errno.EIO, b""
            head = _OUT.pack(_OUT.size + len(answer), -problem, unique)
            with contextlib.suppress(OSError):  # interrupted
                os.write(self._device, head + answer)

    # --- faults -----------------------------------------------------------------------------------

    def _faults(self, path: str) -> dict[str, Any]:
        with open(self._control) as file:
            faults: dict[str, Any] = json.load(file)
        return faults if path.endswith(faults["suffix"]) else {}

    def _refuse_denied(self, code: int, node: int) -> None:
        if code in DENIABLE.values():
            faults = self._faults(self._paths[node])
            if code in (DENIABLE[name] for name in faults.get("denied", ())):
                raise OSError(errno.EACCES, "")

    def _met(self, call: str, path: str, start: int = 0, size: int = 1) -> dict[str, Any]:
        """Return the faults of a call that concern it, once what is to be run was run."""
        faults = self._faults(path)
        if start + size <= faults.get("behind", 0):
            return {}
        if faults.get("at") == call:
            with self._guard:
                self._count += 1
                is_now = self._count == faults.get("nth", 1)
            if is_now:
                subprocess.run(faults["run"], check=True)
        return faults

    # --- calls ------------------------------------------------------------------------------------

    def _path(self, node: int, name: bytes) -> str:
        return os.path.join(self._paths[node], os.fsdecode(name.partition(b"\0")[0]))

    def _entry(self, path: str) -> bytes:
        attributes = self._attributes(path)[16:]
        with self._guard:
            node = self._nodes.setdefault(path, len(self._paths) + 1)
            self._paths[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + attributes

    def _attributes(self, path: str) -> bytes:
        found = os.lstat(path)
        known = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
        times = [one + self._clock * 10**9 for one in known]
        return struct.pack(
            "<16x6Q10I",
            *(found.st_ino, found.st_size, found.st_blocks),
            *(one // 10**9 for one in times),
            *(one % 10**9 for one in times),
            *(found.st_mode, found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0),
        )

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._path(node, body))

    def _set_attributes(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        valid, _, size, _, atime, mtime = struct.unpack_from("<I4xQQQQQ", body)
        atime_ns, mtime_ns, _, mode = struct.unpack_from("<IIII", body, 56)
        if valid & 1:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & 8:
            os.truncate(path, size)
        if valid & 0x1B0:  # times, or now
            now = time.time_ns()
            os.utime(
                path,
                ns=(
                    now if valid & 0x80 else (atime - self._clock) * 10**9 + atime_ns,
                    now if valid & 0x100 else (mtime - self._clock) * 10**9 + mtime_ns,
                ),
            )
        return self._attributes(path)

    def _mkdir(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body[8:])
        os.mkdir(path, struct.unpack_from("<I", body)[0])
        return self._entry(path)

    def _remove(self, node: int, body: bytes, remove: Callable[[str], None]) -> bytes:
        remove(self._path(node, body))
        return b""

    def _rename(self, node: int, body: bytes, at: int) -> bytes:
        old, new, _ = body[at:].split(b"\0", 2)
        target = self._path(struct.unpack_from("<Q", body)[0], new)
        source = self._path(node, old)
        os.rename(source, target)
        with self._guard:
            if moved := self._nodes.pop(source, 0):
                self._nodes[target] = moved
                self._paths[moved] = target
        return b""

    def _link(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body[8:])
        os.link(self._paths[struct.unpack_from("<Q", body)[0]], path)
        return self._entry(path)

    def _open(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        faults = self._met("open", path)
        if "open" in faults:
            raise OSError(faults["open"], "")
        flags = struct.unpack_from("<I", body)[0] & _FLAGS
        return struct.pack("<QII", os.open(path, flags | os.O_CLOEXEC), 0, 0)

    def _create(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        path = self._path(node, body[16:])
        fd = os.open(path, flags & _FLAGS | os.O_CREAT | os.O_CLOEXEC, stat.S_IMODE(mode))
        return self._entry(path) + struct.pack("<QII", fd, 0, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        fd, start, size, _ = _READ.unpack_from(body)
        path = self._paths[node]
        faults = self._met("read", path, start, size)
        if "read" in faults:
            raise OSError(faults["read"], "")
        if not os.fstat(fd).st_nlink:
            raise OSError(errno.ESTALE, "")
        content = os.pread(fd, size, start)
        if faults.get("short"):
            content = content[: max(faults.get("behind", 0) - start, 0)]
        flip = faults.get("flip", -1) - start
        if 0 <= flip < len(content):
            content = content[:flip] + bytes([content[flip] ^ 1]) + content[flip + 1 :]
        return content

    def _write(self, _: int, body: bytes) -> bytes:
        fd, start, size, _ = _READ.unpack_from(body)
        return struct.pack("<II", os.pwrite(fd, body[40 : 40 + size], start), 0)

    def _release(self, _: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def _statfs(self, *_: object) -> bytes:
        return struct.pack(
            "<5Q4I24x", 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 4096, 255, 4096, 0
        )

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, start, size, _ = _READ.unpack_from(body)
        answer = b""
        names = [".", "..", *sorted(os.listdir(self._paths[node]))]
        for at, name in enumerate(names[start:], start + 1):
            raw = os.fsencode(name)
            mode = os.lstat(f"{self._paths[node]}/{name}").st_mode
            one = struct.pack("<QQII", at, at, len(raw), mode >> 12) + raw
            one += bytes(-len(one) % 8)
            if len(answer) + len(one) > size:
                break
            answer += one
        return answer


def _serve(backing: str, point: str, control: str, clock: int, ready: int) -> None:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    nosuid_nodev = 2 | 4
    if libc.mount(b"store", os.fsencode(point), b"fuse", nosuid_nodev, options):
        raise OSError(ctypes.get_errno(), "mount", point)
    server = _Server(device, backing, control, clock)
    threads = [threading.Thread(target=server.run) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    os.write(ready, b"1")
    os.close(ready)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
