"""Faults in how snapshots are shown."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace

from graphdriver.abilities import Mount
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import InUseError, UnsupportedError
from tests.conformance.snapshotter.faults.fault import Broken, Labels, Shown, caught_by


def _with(mounts: Sequence[Mount], old: str, new: str) -> Sequence[Mount]:
    return [
        replace(one, options=tuple(new if option == old else option for option in one.options))
        for one in mounts
    ]


@caught_by("mounts/prepare-is-writable")
class PrepareIsReadOnly(Broken):
    """What Prepare answers is mounted read-only."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        return _with(super().prepare(key, parent, labels), "rw", "ro")


@caught_by("mounts/mounts-are-repeated")
class MountsAreToldAnew(Broken):
    """Mounts tells other options than Prepare told."""

    def mounts(self, key: str) -> Sequence[Mount]:
        return [replace(one, options=(*one.options, "noatime")) for one in super().mounts(key)]


@caught_by("mounts/overlay-mounts-have-their-directories")
class NoWorkdir(Shown):
    """An overlay mount names no workdir."""

    good = Overlay2Driver

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        return [
            replace(one, options=tuple(o for o in one.options if not o.startswith("workdir=")))
            for one in mounts
        ]


@caught_by("mounts/mount-options-are-known")
class UnknownOption(Shown):
    """An overlay mount has an option that BuildKit does not know."""

    good = Overlay2Driver

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        return [
            replace(one, options=(*one.options, "metacopy=off")) if one.type == "overlay" else one
            for one in mounts
        ]


@caught_by("mounts/views-are-read-only")
class ViewsAreWritable(Broken):
    """A view is mounted to be written to."""

    def view(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        return _with(super().view(key, parent, labels), "ro", "rw")


@caught_by("mounts/root-directory-is-open")
class RootDirectoriesAreClosed(Shown):
    """A first snapshot's root directory is 0700."""

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        if not os.listdir(mounts[0].source):
            os.chmod(mounts[0].source, 0o700)
        return mounts


@caught_by("mounts/views-at-once")
class OneViewAtATime(Broken):
    """A second view of a snapshot is refused."""

    def view(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        if parent and self.find([f'kind==view,parent=="{parent}"']):
            raise InUseError(f"{parent} is viewed already")
        return super().view(key, parent, labels)


@caught_by("mounts/hundred-and-twenty-eight-layers")
class HundredLayers(Broken):
    """More than a hundred snapshots do not stand on each other."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        depth, below = 0, parent
        while below:
            depth, below = depth + 1, self.stat(below).parent
        if depth > 100:
            raise UnsupportedError("too many layers")
        return super().prepare(key, parent, labels)


@caught_by("content/written-again-before-commit")
class MountsBeginAnew(Broken):
    """Mounts tells of an empty directory."""

    def mounts(self, key: str) -> Sequence[Mount]:
        super().mounts(key)
        return [Mount("bind", tempfile.mkdtemp(), ("rbind", "rw"))]
