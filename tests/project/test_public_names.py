"""The public names: the package, its types, its documentation and `help` agree on them."""

from __future__ import annotations

import ast
import importlib
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest
from grpc import StatusCode

import graphdriver
from graphdriver import errors
from graphdriver.cli import command
from graphdriver.containerd import service
from graphdriver.docker.handler import STATUS
from tests.support.documented import pages

PUBLIC = set(graphdriver.__all__)


def typed() -> dict[str, str]:
    """Return the public names as type checkers see them, each with its module."""
    tree = ast.parse(Path(graphdriver.__file__).read_text())
    (block,) = (
        one
        for one in tree.body
        if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING"
    )
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_and_python_see_the_same_names() -> None:
    assert typed().keys() | {"__version__"} == PUBLIC
    for name, module in typed().items():
        assert getattr(graphdriver, name) is getattr(importlib.import_module(module), name)


def test_the_documentation_lists_them() -> None:
    section = pages()["docs/contract.md"].partition("## Public names")[2].partition("\n## ")[0]
    rows = "".join(line for line in section.splitlines() if line.startswith("|"))
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(PUBLIC)


def test_every_error_is_public() -> None:
    found = {name for name in vars(errors) if name.endswith("Error")}
    assert found == {name for name in PUBLIC if name.endswith("Error")}


BY_KIND = errors.BY_KIND | {errors.Kind.FAILED: errors.GraphDriverError}

NEVER_SENT = {errors.Kind.UNREACHABLE}
"""Kinds of errors that are raised by those who ask only."""

NEVER_ON_GRPC = set(errors.Kind) - service.CODES.keys() - {errors.Kind.FAILED}


def test_the_documentation_lists_the_codes_of_each_kind_of_error() -> None:
    def row(kind: errors.Kind) -> str:
        status = "-" if kind in NEVER_SENT else STATUS.get(kind, 500)
        code = "-" if kind in NEVER_ON_GRPC else service.CODES.get(kind, StatusCode.INTERNAL).name
        name = BY_KIND[kind].__name__
        return f"| `{kind.value}` | `{name}` | {status} | {code} | {command.CODES[kind]} |"

    table = pages()["docs/contract.md"].partition("| kind | class |")[2].partition("\n\n")[0]
    assert table.splitlines()[2:] == [row(kind) for kind in errors.Kind]


ASKS = {"containerd/questions.py", "containerd/daemon_client.py", "docker/client.py"}
ASKS |= {"docker/address/discovery.py"}
"""Files of those who ask a server, in packages that hold servers."""

SERVES_BOTH = ("drivers", "serving", "naive", "store", "locks", "returned")
SERVES_SNAPSHOTS = (*SERVES_BOTH, "containerd", "blobs")
SERVES = (*SERVES_BOTH, "docker", "layer")


def raised_in(packages: tuple[str, ...]) -> set[str]:
    """Return the names of the errors that servers in these packages raise."""
    source = Path(graphdriver.__file__).parent
    return {
        name
        for file in source.rglob("*.py")
        if str(file.relative_to(source)).startswith(packages)
        and str(file.relative_to(source)) not in ASKS
        for name in re.findall(r"\b(\w+Error)(?:\.of)?\(", file.read_text())
    }


def test_a_code_that_the_documentation_leaves_out_does_not_occur() -> None:
    assert "LayerUnfinishedError" in raised_in(SERVES_SNAPSHOTS)
    assert not {BY_KIND[kind].__name__ for kind in NEVER_ON_GRPC} & raised_in(SERVES_SNAPSHOTS)
    assert not {BY_KIND[kind].__name__ for kind in NEVER_SENT} & raised_in(SERVES)


def test_each_kind_of_error_that_has_a_code_occurs() -> None:
    sent = {BY_KIND[kind].__name__ for kind in set(errors.Kind) - NEVER_SENT}
    assert sent <= raised_in(SERVES)
    on_grpc = {BY_KIND[kind].__name__ for kind in set(errors.Kind) - NEVER_ON_GRPC}
    assert on_grpc <= raised_in(SERVES_SNAPSHOTS)


def test_a_wrong_name_is_an_error_for_python_and_for_type_checkers() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        # An unused "type: ignore" fails the lint.
        _ = graphdriver.nothing  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from graphdriver import nothing  # type: ignore[attr-defined]  # noqa: F401


def test_dir_and_help_show_them() -> None:
    assert set(dir(graphdriver)) == PUBLIC
    shown = pydoc.plain(pydoc.render_doc(graphdriver))
    for name in PUBLIC - {"__version__"}:
        assert re.search(rf"^    (class )?{name}\b", shown, re.MULTILINE), name
    assert f"\nVERSION\n    {graphdriver.__version__}\n" in shown


def loaded(statement: str) -> set[str]:
    """Return the modules that a statement imports into a fresh interpreter."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_import_of_the_package_imports_nothing_else_of_it() -> None:
    modules = loaded("import graphdriver")
    assert {one for one in modules if one.startswith("graphdriver")} == {"graphdriver"}


def test_a_socket_is_bound_before_anything_slow_is_imported() -> None:
    modules = loaded("from graphdriver import UnixListener")
    slow = {
        "graphdriver.docker.handler",
        "graphdriver.layer",
        "httptools",
        "ssl",
        "importlib.metadata",
    }
    assert "graphdriver.docker.address.listeners" in modules
    assert not modules & slow
