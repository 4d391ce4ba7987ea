"""Where the commands look for homes."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphdriver.cli.known_homes import daemon_of, homes_in, remembered
from graphdriver.docker import state
from graphdriver.docker.daemon import Daemon, InitFile
from graphdriver.docker.messages import InitRequest


@pytest.mark.root
@pytest.mark.parametrize("kept", ["py-mine", "name=py-mine"])
def test_the_init_of_a_plugin_is_found_by_its_name(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "STATES", str(tmp_path))
    InitFile(str(tmp_path / kept)).write(Daemon(InitRequest("/mine", ()), None))
    InitFile(str(tmp_path / "other")).write(Daemon(InitRequest("/other", ()), None))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/init.json").write_text("{")
    found = daemon_of("py-mine", remembered())
    assert found
    assert found.init.home == "/mine"
    assert daemon_of("py-none", remembered()) is None


def test_homes_of_a_daemon_with_remapped_ids_are_found(tmp_path: Path) -> None:
    homes = [tmp_path / "1000.1000/py-vfs", tmp_path / "py-overlay2"]
    for home in homes:
        (home / ".graphdriver").mkdir(parents=True)
        (home / ".graphdriver/home.json").write_text("{}")
    (tmp_path / "image").mkdir()
    assert list(homes_in(str(tmp_path))) == [str(home) for home in homes]
    assert not list(homes_in(str(tmp_path / "missing")))
