"""The stubs are what the compiler makes of the .proto, and nothing else."""

from __future__ import annotations

from pathlib import Path

from graphdriver.containerd.compile import DIRECTORY, GENERATED, compile_into


def test_the_stubs_are_fresh(tmp_path: Path) -> None:
    compile_into(str(tmp_path))
    for name in GENERATED:
        assert Path(DIRECTORY, name).read_text() == (tmp_path / name).read_text(), (
            f"{name} is old; make it anew with `python -m graphdriver.containerd.compile`"
        )
