"""The root of a plugin's container: files of this machine, at the paths that they have here.

An interpreter finds its library by its own path, and a program its shared libraries by theirs. So
nothing has to be configured.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from typing import Final

from graphdriver.errors import UnsupportedError

_UNUSED: Final = re.compile(
    r"""test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pydoc_data|__pycache__|config-.*
    |site-packages|dist-packages
    |(_tkinter|_test[a-z]*|_ctypes_test|xx[a-z_0-9]*|_curses[a-z_]*|readline|nis|_g?dbm)\..*""",
    re.VERBOSE,
)
"""Names in the standard library that no driver needs: its tests, other packages, files for compilers,
and modules for terminals and windows, which would bring many libraries."""

_AT_RUN_TIME: Final = ("libgcc_s.so.1",)
"""Libraries that no program names: the C library opens this one when a thread ends."""


class Rootfs:
    """The root of a container while it is made.

    Args:
        path: an existing directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._programs: dict[str, str] = {}
        """Programs and libraries: the file here, and its copy."""

    def inside(self, path: str) -> str:
        """Return where a path of the container is in this machine."""
        return self.path + os.path.abspath(path)

    def make_directories(self, paths: Iterable[str]) -> None:
        """Make empty directories, for what is mounted there."""
        for path in paths:
            os.makedirs(self.inside(path), exist_ok=True)

    def add_file(self, path: str, to: str = "") -> None:
        """Copy a file; a link is followed.

        Args:
            path: the file here.
            to: its path in the container; by default the same.
        """
        target = self.inside(to or path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.lexists(target):
            shutil.copyfile(path, target)
            os.chmod(target, 0o755 if os.access(path, os.X_OK) else 0o644)
            if _is_elf(path):
                self._programs[path] = target

    def add_tree(
        self, path: str, to: str = "", is_left_out: Callable[[str], bool] = lambda name: False
    ) -> None:
        """Copy a directory.

        Args:
            path: the directory here.
            to: its path in the container; by default the same.
            is_left_out: tells for a name in it, on every level, whether it is not copied.
        """
        with os.scandir(path) as entries:
            for entry in entries:
                if is_left_out(entry.name):
                    continue
                below = os.path.join(to or path, entry.name)
                if entry.is_dir():
                    self.add_tree(entry.path, below, is_left_out)
                elif entry.is_file():
                    self.add_file(entry.path, below)

    def add_interpreter(self) -> str:
        """Copy the interpreter that runs, and its standard library; return its path."""
        interpreter = os.path.realpath(sys.executable)
        self.add_file(interpreter)
        for kind in ("stdlib", "platstdlib"):
            library = os.path.realpath(
                sysconfig.get_path(kind, vars={"installed_base": sys.base_prefix})
            )
            self.add_tree(library, is_left_out=lambda name: bool(_UNUSED.fullmatch(name)))
        return interpreter

    def add_libraries(self) -> None:
        """Copy the shared libraries of all programs that were added.

        Raises:
            UnsupportedError: a library is missing here.
        """
        # Also of the libraries themselves: ldd lists indirect ones too, so one pass is enough.
        found = _libraries(self._programs)
        for library in found:
            self.add_file(library)
        for name in _AT_RUN_TIME:
            for directory in sorted({os.path.dirname(one) for one in found}):
                if os.path.exists(path := os.path.join(directory, name)):
                    self.add_file(path)
        if strip := shutil.which("strip"):  # debugging symbols may be most of an interpreter
            subprocess.run([strip, "--strip-debug", *self._programs.values()], check=True)

    def compile(self) -> None:
        """Compile all Python files: the daemon waits only some seconds for a plugin to start.

        The compiled files are valid whatever the times of the sources are.
        """
        compileall.compile_dir(
            self.path,
            maxlevels=64,
            quiet=2,
            stripdir=self.path,
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _is_elf(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _libraries(programs: Iterable[str]) -> list[str]:
    """Return the paths of the shared libraries of some programs, and of the program that loads them."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False)
    libraries = set()
    for line in listed.stdout.splitlines():
        name, arrow, where = line.strip().partition(" => ")
        path = (where if arrow else name).partition(" (")[0]
        if arrow and path == "not found":
            raise UnsupportedError(
                f"the shared library {name} is missing here", hint="install its package"
            )
        if path.startswith("/") and not line.endswith(":"):
            libraries.add(path)
    return sorted(libraries)
