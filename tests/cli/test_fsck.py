"""``graphdriver fsck`` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphdriver.drivers.loading import make
from graphdriver.serving.served_home import ServedHome
from tests.support.command import graphdriver

pytestmark = pytest.mark.root


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    served = ServedHome(make("vfs"), "docker")
    served.claim(str(path))
    served.init_driver()
    served.driver.create("layer", "", "", {})
    served.close()
    return path


def test_a_sound_home_is_one_line(home: Path) -> None:
    done = graphdriver("fsck", str(home))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{home}: vfs for docker, 1 layer, sound\n"


def test_a_warning_is_told_repaired_and_gone(home: Path) -> None:
    (home / ".graphdriver/applying/layer").touch()
    expected = [
        (13, "warning   layer layer: it is incomplete: its transfer did not finish", "1 warning"),
        (0, "repaired  layer layer: it is incomplete: its transfer did not finish", "1 repaired"),
    ]
    for words, (code, first, last) in zip(((), ("--repair",)), expected, strict=True):
        done = graphdriver("fsck", *words, str(home))
        lines = done.stdout.decode().splitlines()
        assert done.returncode == code
        assert lines[0].startswith(first)
        assert last in lines[-1]
    assert graphdriver("fsck", str(home)).returncode == 0


def test_lost_content_is_exit_code_14_and_json_names_all(home: Path) -> None:
    (home / ".graphdriver/home.json").write_text("\x1b[2J")
    done = graphdriver("fsck", str(home))
    assert done.returncode == 14
    assert b"\x1b" not in done.stdout
    shown = json.loads(graphdriver("fsck", "--json", str(home)).stdout)
    assert (shown["home"], shown["driver"]) == (str(home), None)
    assert [one["code"] for one in shown["found"]] == ["lost-home-record"]


def test_what_is_no_home_is_wrong_usage(tmp_path: Path) -> None:
    done = graphdriver("fsck", str(tmp_path))
    assert done.returncode == 2
    assert b"is not a home" in done.stderr
