"""Where hostile answers lead, and what is looked at afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from graphdriver.conformance.kit.report import explanation
from graphdriver.conformance.kit.run import Outcome, Result
from graphdriver.conformance.kit.scratch import scratch_directory
from tests.support.canary import Canary

K = TypeVar("K")
P = TypeVar("P")

LONGEST_EXPLANATION = 10_000


@dataclass(frozen=True)
class Attack(Generic[P]):
    """A plugin, or a snapshotter, that means harm.

    Attributes:
        name: what the test is called.
        case: the case that must fail by it.
        says: what the explanation must hold.
        planted: what means harm.
    """

    name: str
    case: str
    says: str
    planted: type[P]


@dataclass
class Ground:
    """A host.

    Attributes:
        directory: where the kit makes its own directories.
        home: the plugin's.
        canary: a tree of the host's.
        victim: another tree, which the plugin itself links and mounts: its files' change times move.
    """

    directory: Path
    home: Path
    canary: Canary
    victim: Path
    first: str = ""
    """The first layer that was got; the others stand on it."""

    @classmethod
    def made_in(cls, root: Path) -> Ground:
        for name in ("kit", "home"):
            (root / name).mkdir()
        canary = Canary.hatch(root / "canary")
        (canary.root / "empty").mkdir(mode=0o750)
        victim = root / "victim"
        (victim / "upper").mkdir(parents=True, mode=0o750)
        (victim / "work").mkdir()
        (victim / "file").write_text("only the host may change this")
        (victim / "file").chmod(0o640)
        return cls(root / "kit", root / "home", canary, victim)

    def look_at_the_victim(self) -> list[object]:
        """Return what the kit could have changed of it."""
        found: list[object] = []
        for name in ("", "upper", "file"):
            path = self.victim / name
            entry = path.stat()
            content = path.read_text() if path.is_file() else sorted(os.listdir(path))
            found.append((name, entry.st_mode, entry.st_uid, entry.st_gid, content))
        return found

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """See that the host is after a ``with`` block as it was before."""
        before = self.look_at_the_victim()
        with self.canary.unharmed():
            yield
        assert self.look_at_the_victim() == before
        assert os.getcwd() == str(self.canary.root)


@contextlib.contextmanager
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """Make a host for the length of a ``with`` block, and its canary the working directory.

    A path that is relative, or empty, leads there.
    """
    with scratch_directory("/dev/shm", "gd-") as directory:
        found = Ground.made_in(directory)
        monkeypatch.chdir(found.canary.root)
        yield found


def expect_clear(result: Result[K], says: str) -> None:
    """See that a case failed, and that its explanation is short and safe on a terminal."""
    assert result.outcome is Outcome.FAILED
    told = explanation(result)
    assert says in told
    assert len(told) < LONGEST_EXPLANATION
    assert all(one.isprintable() or one == "\n" for one in told)
