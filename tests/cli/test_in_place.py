"""``--in-place`` on the command line: what it needs, and who cannot do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import graphdriver

pytestmark = pytest.mark.root


def test_only_a_directory_can_be_read_in_place(tmp_path: Path) -> None:
    for command in (
        ["serve", "erofs", "--shared", "oci://localhost/layers"],
        ["snapshotter", "erofs", "--address", str(tmp_path / "s"), "--shared", "oci://[::1]/a"],
    ):
        done = graphdriver(*command, "--in-place")
        assert done.returncode == 2
        assert b"--in-place needs a store that is a directory" in done.stderr


@pytest.mark.parametrize("options", [["--in-place"], ["--shared", "/"]])
def test_one_option_needs_the_other(options: list[str]) -> None:
    done = graphdriver("serve", "erofs", *options)
    assert done.returncode == 2
    assert b"--shared DIR and --in-place need each other" in done.stderr


def test_a_driver_that_cannot_do_it_is_refused(tmp_path: Path) -> None:
    options = ["--socket", str(tmp_path / "s.sock"), "--shared", str(tmp_path), "--in-place"]
    done = graphdriver("serve", "vfs", *options)
    assert done.returncode != 0
    assert b"the driver vfs cannot do that" in done.stderr


@pytest.mark.parametrize("command", ["serve", "snapshotter"])
def test_a_file_is_no_store(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    socket = "--socket" if command == "serve" else "--address"
    options = [socket, str(tmp_path / "s.sock"), "--shared", str(tmp_path / "file"), "--in-place"]
    done = graphdriver(command, "erofs", *options)
    assert done.returncode == 7
    assert b"file is not a directory" in done.stderr


def test_a_snapshotter_needs_a_store_for_it(tmp_path: Path) -> None:
    done = graphdriver("snapshotter", "erofs", "--address", str(tmp_path / "s"), "--in-place")
    assert done.returncode == 2
    assert b"--in-place needs --shared STORE" in done.stderr
