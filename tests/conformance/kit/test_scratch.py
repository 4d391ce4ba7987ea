"""A temporary directory is emptied, and nothing that a plugin has mounted there with it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from graphdriver.conformance.kit import scratch
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.linux.mount import MS_BIND, mount, unmount
from graphdriver.linux.mountinfo import mount_points
from tests.conformance.kit.hostile import host

pytestmark = pytest.mark.root


def test_what_is_mounted_in_a_temporary_directory_outlives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mount_the_host(source: str, place: Path) -> None:
        for name in ("a", "b"):
            (place / name / "deep").mkdir(parents=True)
            (place / name / "file").write_text("x")
            mount(source, str(place / name / "deep"), "", MS_BIND, "")
        mount(source, str(place), "", MS_BIND, "")

    with host(monkeypatch) as ground:
        source = str(ground.canary.root)
        with ground.canary.unharmed(), scratch_directory(ground.directory) as one:
            mount_the_host(source, one)
        assert not one.exists()
        # A plugin that mounts faster than it is unmounted.
        with monkeypatch.context() as patch, ground.canary.unharmed():
            patch.setattr(scratch, "unmount", lambda *_: None)
            with scratch_directory(ground.directory) as other:
                mount_the_host(source, other)
        unmount(str(other))
        assert (other / "a" / "deep" / "folder" / "file").exists()


def test_a_mount_whose_id_another_one_had_before_is_unmounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "sub"
    place.mkdir()
    with monkeypatch.context() as patch:
        # The kernel gives the IDs of mounts that are gone to new ones.
        elsewhere = next(iter(mount_points()))
        every = [replace(elsewhere, id=number) for number in range(100_000)]
        patch.setattr(scratch, "mount_points", lambda: every)
        emptying = scratch.emptied(tmp_path)
        emptying.__enter__()
    mount("tmpfs", str(place), "tmpfs", 0, "")
    emptying.__exit__(None, None, None)
    assert not [one.point for one in mount_points() if one.point == os.fsencode(place)]
    assert list(tmp_path.iterdir()) == []
