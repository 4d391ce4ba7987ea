"""Who serves a home, as a program finds it that looks at the home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphdriver
from graphdriver.serving.served_home import ServedHome
from graphdriver.serving.server_record import SERVER, ServerRecord, read_server
from tests.support.tarbox import TarBox

ADDRESSES = ("unix:///run/p.sock", "tcp://127.0.0.1:2377")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def served(path: Path) -> Iterator[ServedHome]:
    served = ServedHome(TarBox(), "docker")
    served.listens_at(ADDRESSES)
    served.claim(str(path))
    served.init_driver()
    yield served
    served.close()


def test_the_process_that_serves_a_home_is_found(served: ServedHome, path: Path) -> None:
    found = read_server(str(path))
    assert found
    assert found == ServerRecord(
        os.getpid(), ADDRESSES, "docker", "TarBox", graphdriver.__version__, found.started
    )
    assert found.started.endswith("Z")


def test_a_server_that_listens_later_is_found_from_then_on(path: Path) -> None:
    served = ServedHome(TarBox(), "containerd")
    served.claim(str(path))
    served.init_driver()
    assert read_server(str(path)) is None
    served.listens_at(ADDRESSES)
    assert read_server(str(path))
    served.close()


def test_a_released_home_is_served_by_nobody(served: ServedHome, path: Path) -> None:
    served.release()
    assert not (path / SERVER).exists()
    assert read_server(str(path)) is None
    assert read_server(str(path / "none")) is None


def test_a_home_that_was_moved_away_keeps_the_record_of_the_one_there_now(
    served: ServedHome, path: Path
) -> None:
    path.rename(path.with_name("aside"))
    other = ServedHome(TarBox(), "docker")
    other.listens_at(["unix:///run/other.sock"])
    other.claim(str(path))
    other.init_driver()
    served.release()
    found = read_server(str(path))
    assert found
    assert found.addresses == ("unix:///run/other.sock",)
    other.close()


def test_a_killed_process_serves_no_home(path: Path) -> None:
    code = (
        "import sys; from graphdriver.serving.served_home import ServedHome;"
        "from tests.support.tarbox import TarBox; s = ServedHome(TarBox(), 'docker');"
        f"s.listens_at(['unix:///x']); s.claim({str(path)!r}); s.init_driver();"
        "print('served', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"served\n"
        found = read_server(str(path))
        assert found
        assert found.pid == process.pid
        process.kill()
    assert (path / SERVER).exists()
    assert read_server(str(path)) is None


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{}",
        '{"pid": -1, "addresses": []}',
        '{"pid": true, "addresses": []}',
        '{"pid": %d, "addresses": "unix:///x"}',
        '{"pid": %d, "addresses": ["\\u001b[2J"], "engine": "", "driver": "", "version": "",'
        ' "started": ""}',
        "[" * 100000,
    ],
)
def test_a_damaged_record_names_nobody(served: ServedHome, path: Path, damage: str) -> None:
    (path / SERVER).write_text(damage.replace("%d", str(os.getpid())))
    assert read_server(str(path)) is None


@pytest.mark.parametrize("there", ["a directory", "a FIFO", "a link in a circle"])
def test_what_is_no_file_names_nobody(path: Path, there: str) -> None:
    (path / ".graphdriver").mkdir(parents=True)
    if there == "a directory":
        (path / SERVER).mkdir()
    elif there == "a FIFO":
        os.mkfifo(path / SERVER)
    else:
        (path / SERVER).symlink_to(path / SERVER)
    assert read_server(str(path)) is None
    served = ServedHome(TarBox(), "docker")
    served.listens_at(ADDRESSES)
    served.claim(str(path))
    served.init_driver()  # a record that cannot be written keeps nobody from serving
    served.close()


def test_the_record_is_json_with_stable_names(served: ServedHome, path: Path) -> None:
    found = json.loads((path / SERVER).read_text())
    assert list(found) == ["pid", "addresses", "engine", "driver", "version", "started"]
    assert (path / SERVER).stat().st_mode & 0o777 == 0o600
