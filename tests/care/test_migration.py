"""A migration that is interrupted at any rename goes on where it ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.care.migration import workplace
from graphdriver.care.migration.migration import migrate
from graphdriver.care.migration.plan import Side
from graphdriver.care.migration.planning import make_plan
from graphdriver.errors import LayerExistsError
from graphdriver.linux.rename import exchange
from tests.support.docker_root import DRIVER, DockerRoot

pytestmark = pytest.mark.root

DIFF_IDS = ["sha256:" + one * 64 for one in "ab"]
CONTAINER = "c" * 64
LAYERS = {"first": "", "second": "first", "mount-init": "second", "mount": "mount-init"}


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture
def root(tmp_path: Path) -> DockerRoot:
    """A data root whose layers are in our vfs."""
    made = DockerRoot(tmp_path)
    made.layer("first", DIFF_IDS[:1])
    made.layer("second", DIFF_IDS)
    made.image_of(DIFF_IDS, "image:1")
    made.container(CONTAINER, "one", "mount", DIFF_IDS)
    for id, parent in LAYERS.items():
        (made.home / id / "root").mkdir(parents=True)
        (made.home / id / "made").write_text(parent)
        (made.home / id / "root/file").write_text(id)
    return made


def run(root: DockerRoot, source: Side, target: Side, *, keeps: bool = False) -> None:
    migrate(make_plan(source, target, keeps=keeps))


def interrupt_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let the rename of a number fail, and all later ones; return a list that counts them."""
    count: list[int] = []

    def counting(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **more: object) -> None:
            count.append(1)
            if len(count) >= number:
                raise KilledError
            real(*arguments, **more)

        return call

    monkeypatch.setattr(os, "rename", counting(os.rename))
    monkeypatch.setattr(f"{workplace.__name__}.exchange", counting(exchange))
    return count


def trees(root: Path, side: Side) -> dict[str, str]:
    """Return what is in each layer of a side."""
    pattern = "dir/*/file" if side.is_built_in else "*/root/file"
    return {
        path.relative_to(side.home).parts[1 if side.is_built_in else 0]: path.read_text()
        for path in Path(side.home).glob(pattern)
    }


def test_a_new_side_that_exists_is_refused_with_all_that_is_in_the_way(root: DockerRoot) -> None:
    ours = Side(str(root.path), DRIVER, "vfs", is_built_in=False)
    theirs = Side(str(root.path), "vfs", "vfs", is_built_in=True)
    os.mkdir(theirs.home)
    os.mkdir(theirs.records)
    with pytest.raises(LayerExistsError, match=f"{theirs.home} and {theirs.records}"):
        make_plan(ours, theirs, keeps=False)


@pytest.mark.parametrize("keeps", [False, True])
def test_an_interrupted_migration_goes_on(
    root: DockerRoot, monkeypatch: pytest.MonkeyPatch, *, keeps: bool
) -> None:
    ours = Side(str(root.path), DRIVER, "vfs", is_built_in=False)
    theirs = Side(str(root.path), "vfs", "vfs", is_built_in=True)
    source, target = ours, theirs
    for number in range(1, 100):  # in turn there and back
        with monkeypatch.context() as patched:
            interrupt_at(patched, number)
            try:
                run(root, source, target, keeps=keeps)
            except KilledError:
                was_interrupted = True
            else:
                was_interrupted = False
        if was_interrupted:
            run(root, source, target, keeps=keeps)
        assert trees(root.path, target) == {id: id for id in LAYERS}
        config = root.path / "containers" / CONTAINER / "config.v2.json"
        assert f'"Driver":"{target.name}"' in config.read_text()
        assert not (root.path / workplace.NAME).exists()
        assert os.path.isdir(source.home) == keeps
        if keeps:
            assert trees(root.path, source) == {id: id for id in LAYERS}
            for path in (source.home, source.records):
                os.rename(path, f"{root.path}/kept-{number}-{os.path.basename(path)}-{len(path)}")
        if not was_interrupted:
            return
        source, target = target, source
    pytest.fail("it never came to its end")
