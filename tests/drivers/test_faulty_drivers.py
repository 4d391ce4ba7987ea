"""A driver of another package that cannot be used is reported in one line and harms no other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import ProtoDriver
from graphdriver.drivers import choice
from graphdriver.drivers.loading import available, load, make
from graphdriver.errors import GraphDriverError, UnsupportedError
from tests.support.command import graphdriver, install

WHOLE = """
from graphdriver.drivers.vfs.driver import VfsDriver
class Driver(VfsDriver):
    pass
"""

ON_IMPORT = {
    "import no_such_thing": "No module named 'no_such_thing' ({file}, line 1)",
    "from os import no_such_thing": "cannot import name 'no_such_thing' from 'os'",
    "1 / 0": "ZeroDivisionError: division by zero ({file}, line 1)",
    "class Driver(": "SyntaxError: '(' was never closed (faulty.py, line 1)",
    "def f():\nreturn": "IndentationError: expected an indented block",
    "\0": "source code string cannot contain null bytes",
    "\n\nraise SystemExit('no licence')": "SystemExit: no licence ({file}, line 3)",
    "import sys; sys.exit(3)": "SystemExit: 3 ({file}, line 1)",
    "raise OSError(2, 'No such file', '/etc/x')": "No such file: '/etc/x' ({file}, line 1)",
    "raise RuntimeError('two\\nlines')": "RuntimeError: two lines ({file}, line 1)",
    "raise Exception": "Exception ({file}, line 1)",
    "from graphdriver.errors import *\nraise UnsupportedError('not here')": "not here ({file}, line 2)",
    "class E(Exception):\n def __str__(self): 1 / 0\nraise E": (
        "E: an error without a text ({file}, line 3)"
    ),
    "Other = 1": "has no attribute 'Driver'",
}
"""Modules, and how the error describes each."""

AS_A_CLASS = {
    "Driver = 7": "is not a driver: it does not extend ProtoDriver",
    "class Driver: pass": "is not a driver: it does not extend ProtoDriver",
    "from graphdriver import ProtoDriver\nclass Driver(ProtoDriver):\n def get(self): pass": (
        "is incomplete: it lacks create, exists, put, remove; write these methods"
    ),
    "from graphdriver import Driver": "is incomplete: it lacks apply_diff, changes, create, diff,",
}

WHEN_MADE = {
    "def __init__(self, path): pass": (
        "its constructor must take no arguments (missing a required argument: 'path'); give each"
    ),
    "def __init__(self, *, size): pass": "its constructor must take no arguments (missing a required",
    "def __init__(self): raise ValueError('never')": "cannot be made: ValueError: never (",
    "def __init__(self): raise SystemExit": "cannot be made: SystemExit (",
    "def __init__(): pass": "cannot be made: ",
}

PROBES = {
    "return 7": "its probe returned 7, and must return a Suitability",
    "return None": "its probe returned None, and must return a Suitability",
    "return choice.Suitability('1', 'good')": "and must return a Suitability",
    "return {}['a']": "its probe failed: KeyError: 'a' ({file}, line 5)",
    "raise SystemExit": "its probe failed: SystemExit ({file}, line 5)",
    "raise OSError(1, 'Operation not permitted')": "Operation not permitted ({file}, line 5)",
}


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that is an installed package's driver."""
    install(tmp_path, "faulty", "faulty:Driver")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path / "faulty.py"
    sys.modules.pop("faulty", None)


def line(error: Exception) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(("text", "said"), [*ON_IMPORT.items(), *AS_A_CLASS.items()])
@pytest.mark.parametrize("spec", ["faulty", "faulty:Driver"])
def test_a_driver_that_cannot_be_loaded_is_one_line(
    faulty: Path, spec: str, text: str, said: str
) -> None:
    faulty.write_text(text)
    for use in (load, make):
        with pytest.raises(UnsupportedError) as caught:
            use(spec)
        assert said.format(file=faulty) in line(caught.value)
        assert spec in line(caught.value)


@pytest.mark.parametrize(("text", "said"), [*ON_IMPORT.items(), *AS_A_CLASS.items()])
def test_it_hides_no_other_driver(faulty: Path, text: str, said: str, tmp_path: Path) -> None:
    faulty.write_text(text)
    found = available()
    assert isinstance(found["faulty"], GraphDriverError)
    assert isinstance(found["vfs"], type)
    (finding,) = [one for one in choice.survey(str(tmp_path)) if one.name == "faulty"]
    assert finding.cls is None
    assert said.format(file=faulty) in finding.reason
    assert choice.choose(str(tmp_path)).name != "faulty"


@pytest.mark.parametrize(("constructor", "said"), WHEN_MADE.items())
def test_a_driver_that_cannot_be_made_is_one_line(
    faulty: Path, constructor: str, said: str
) -> None:
    faulty.write_text(WHOLE.replace("pass", constructor))
    with pytest.raises(UnsupportedError) as caught:
        make("faulty")
    assert said in line(caught.value)


def test_a_constructor_may_have_defaults(faulty: Path) -> None:
    faulty.write_text(WHOLE.replace("pass", "def __init__(self, a=1, *b, **c): super().__init__()"))
    assert isinstance(make("faulty"), ProtoDriver)


@pytest.mark.parametrize(("line", "said"), PROBES.items())
def test_a_probe_that_fails_is_that_drivers_trouble_alone(
    faulty: Path, tmp_path: Path, line: str, said: str
) -> None:
    probe = f"@classmethod\n    def probe(cls, home): {line}"
    faulty.write_text("from graphdriver.drivers import choice" + WHOLE.replace("pass", probe))
    (finding,) = [one for one in choice.survey(str(tmp_path)) if one.name == "faulty"]
    assert finding.cls is None
    assert said.format(file=faulty) in finding.reason
    assert "\n" not in finding.reason
    assert choice.choose(str(tmp_path)).name != "faulty"


@pytest.mark.parametrize("place", ["", "faulty", "faulty:", ":Driver", "a b", "[x]", "faulty:a.b"])
def test_an_entry_point_that_names_no_class_hides_no_other_driver(
    faulty: Path, place: str, tmp_path: Path
) -> None:
    faulty.write_text(WHOLE)
    entries = tmp_path / "faulty-1.dist-info/entry_points.txt"
    entries.write_text(f"[graphdriver.drivers]\nfaulty = {place}\n")
    found = available()
    assert isinstance(found["vfs"], type)
    assert isinstance(found["faulty"], UnsupportedError)
    assert "cannot be imported" in line(found["faulty"])
    with pytest.raises(UnsupportedError, match="driver faulty cannot be imported"):
        make("faulty")


def test_an_entry_point_may_have_extras(faulty: Path, tmp_path: Path) -> None:
    faulty.write_text(WHOLE)
    entries = tmp_path / "faulty-1.dist-info/entry_points.txt"
    entries.write_text("[graphdriver.drivers]\nfaulty = faulty:Driver [fast]\n")
    assert isinstance(make("faulty"), ProtoDriver)


# --- as users see it ------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "class Driver(",
        "raise SystemExit(0)",
        "from graphdriver import ProtoDriver as Driver",
        WHOLE.replace("pass", "def __init__(self, path): pass"),
    ],
)
def test_serving_it_ends_with_one_line(faulty: Path, text: str, tmp_path: Path) -> None:
    faulty.write_text(text)
    socket = str(tmp_path / "s.sock")
    commands = [
        ["serve", "faulty:Driver", "--socket", socket],
        ["serve", "faulty", "--socket", socket],
        ["snapshotter", "faulty", "--address", socket, "--root", str(tmp_path / "root")],
    ]
    for command in commands:
        result = graphdriver(*command, path=str(tmp_path))
        assert result.returncode == 7, result.stderr
        (line,) = result.stderr.decode().splitlines()
        assert line.startswith(f"graphdriver {command[0]}: driver faulty")
    assert not (tmp_path / "s.sock").exists()


def test_drivers_lists_the_others(faulty: Path, tmp_path: Path) -> None:
    faulty.write_text("import sys; sys.exit('no licence')")
    result = graphdriver("drivers", path=str(tmp_path))
    assert result.returncode == 0
    assert b"faulty          does not work: " in result.stdout
    assert b"\nvfs             works" in result.stdout
    assert result.stderr == b""
