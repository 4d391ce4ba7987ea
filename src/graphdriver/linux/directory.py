"""readdir(3), for what `os.scandir` hides: whether a filesystem tells types along with names."""

from __future__ import annotations

import ctypes
import os

from graphdriver.linux.libc import libc

_DT_UNKNOWN = 0


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


_fdopendir = libc.fdopendir
_fdopendir.restype = ctypes.c_void_p
_readdir = libc.readdir64
_readdir.argtypes = (ctypes.c_void_p,)
_readdir.restype = ctypes.POINTER(_Dirent)
_closedir = libc.closedir
_closedir.argtypes = (ctypes.c_void_p,)


def tells_types(path: str) -> bool:
    """Tell whether the entries of a folder come with their types (``d_type``).

    Args:
        path: a folder with something in it.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stream = _fdopendir(fd)
    if not stream:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number), path)
    try:
        while entry := _readdir(stream):
            if entry.contents.d_name not in (b".", b".."):
                return bool(entry.contents.d_type != _DT_UNKNOWN)
        return True
    finally:
        _closedir(stream)
