"""Errors that a user would see, and the rule that each of them can be understood.

An error is understood if it says what is wrong in words, and of what: a layer, a path, a socket. A bare
errno, and a text that nobody has thought of, are riddles.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from typing import Final


class RefusedError(Exception):
    """A command of an engine's client failed; the text is all that it printed."""


ENGINE_ENDS: Final = ("engine killed", "engine restarted", "both killed")
"""Disturbances in which the engine itself ends."""

_PROGRAMS: Final = "chmod|head|ln|mkdir|rm|sh|/bin/sh"
"""Programs in containers, which get errors from the kernel, not from a driver."""

UNDERSTOOD: Final = {
    "the disk is full": (
        r"no space is left on the filesystem \(\w+\): \d+ bytes are free",
        r"no space or no inodes are left on the filesystem",
        r"the database /\S+ cannot grow: its filesystem is full; free some room there",
        r"\w+ /\S+: no space left on device",
        rf"^({_PROGRAMS}): .*: (No space left on device|I/O error)",
        r"fuse-overlayfs: cannot open workdir: No such file or directory",  # says why nowhere
        r"failed to copy files: .*: no space left on device",  # BuildKit's, which names no path
        r"data/\S+: (cut short|No space left on device)",
    ),
    "the disk is read-only": (
        r"the filesystem( \(\w+\))? is read-only, as the kernel makes one after an error \(see dmesg\)",
        r"the database /\S+ cannot be used: .*; its filesystem is read-only or full, or its disk",
        rf"^({_PROGRAMS}): .*: Read-only file system",
        r"data/\S+: Read-only file system",
    ),
    "there are too many open files": (
        r"this process has \d+ files open, as many as it may \(RLIMIT_NOFILE\)",
    ),
    "the daemon's call came again without its content": (r"ID is missing; .*; try again",),
    "a stream was cut off, and the plugin's log says why": (r"^unexpected EOF$",),
    "no memory is left": (r"no memory is left for this process \(see RLIMIT_AS and its cgroup\)",),
}
"""Patterns of errors that a user can understand, by what they tell."""

PLUGIN_ENDED: Final = (
    r"[Ee]rror while dialing.*s\.sock",
    r": (connection closed|transport is closing|error reading from server: EOF): unavailable",
    r"(Post|Get) \"\S+\.sock/\S+\": .*(EOF|closed|refused|reset by peer|no such file)",
    r"dial unix /\S+\.sock: connect: (connection refused|no such file or directory)",
    r"(^|\.\.\.)ctr: (failed to prepare extraction snapshot \"[^\"]+\": )?CANCELLED: context canceled$",
)
"""Errors of an engine while the plugin is started again: they name its socket, and most the call.

gRPC cancels a call that reaches a server which stops, before the snapshotter knows of it: the error
names the call at most.
"""

_BARE: Final = re.compile(
    r"(^|: )(\[Errno \d+\] )?("
    + "|".join(re.escape(os.strerror(number)) for number in errno.errorcode)
    + r")(: |$)"
)
"""A kernel's error, of which nobody has said what it means here."""

_PROGRESS: Final = re.compile(r"Step \d+/|Sending build context|$")
"""Lines of a build that tell how far it is."""

_COLOUR: Final = re.compile("\x1b\\[[0-9;]*m|^#\\d+ ([0-9.]+ )?")
"""Colours, and what BuildKit writes before each line of a step."""


class UserErrors:
    """Collects errors; those that nobody would understand are kept word for word."""

    def __init__(self) -> None:
        self.understood: Counter[str] = Counter()
        self.riddles: list[str] = []

    def judge(self, action: str, under: str, text: str) -> None:
        """Sort one error.

        Args:
            action: what was done.
            under: what disturbed it.
            text: what the client printed.
        """
        if under in ENGINE_ENDS:
            self.understood["the engine has ended"] += 1  # its client says so in many ways
            return
        lines = (_COLOUR.sub("", line) for line in text.splitlines())
        said = "\n".join(line for line in lines if not _PROGRESS.match(line)).strip()
        for told, patterns in (*UNDERSTOOD.items(), ("the plugin has ended", PLUGIN_ENDED)):
            if any(re.search(pattern, said, re.MULTILINE) for pattern in patterns):
                self.understood[told] += 1
                return
        self.riddles.append(f"{action} under {under}: {said}")

    def judge_log(self, message: str) -> None:
        """Sort a warning or an error of the plugin's log, which its callers get, too."""
        lost = "the caller closed the connection" in message or "the connection broke" in message
        if _BARE.search(message) and not lost:
            self.riddles.append(f"in the log: {message}")
