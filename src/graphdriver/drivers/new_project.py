"""The project of a new driver, written from the templates in ``project/``."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import re
import string
from typing import Final

import graphdriver
from graphdriver.drivers.loading import available
from graphdriver.errors import MalformedRequestError, UnsupportedError
from graphdriver.files.directories import new_directory

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_FILES: Final = {
    "pyproject.toml": "pyproject.toml.in",
    "README.md": "README.md.in",
    "{module}.py": "driver.py.in",
    "tests/test_driver.py": "tests/test_driver.py.in",
    ".github/workflows/test.yml": "ci/test.yml.in",
}
"""The files of a project, and their templates."""


def write_project(name: str, output: str) -> str:
    """Write a project.

    Args:
        name: the driver's name.
        output: the directory to make; it does not exist, or is empty.

    Returns:
        The name of the driver's module.

    Raises:
        MalformedRequestError: a driver cannot have that name.
        UnsupportedError: another driver or module has it, or the directory is not empty.
        OSError: the directory cannot be made.
    """
    module = _expect_free(name)
    values = {
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "version": graphdriver.__version__,
    }
    templates = importlib.resources.files("graphdriver.drivers") / "project"
    with new_directory(output) as made:
        for file, template in _FILES.items():
            text = string.Template(templates.joinpath(template).read_text("utf-8"))
            path = os.path.join(made, file.format(module=module))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "x", encoding="utf-8") as written:
                written.write(text.substitute(values))
    return module


def _expect_free(name: str) -> str:
    """Check a driver's name; return that of its module."""
    if not _NAME.fullmatch(name):
        raise MalformedRequestError(
            f"{name!r} cannot be a driver's name",
            hint="use lower-case letters, digits and single '-', and begin with a letter",
        )
    if name in available():
        raise UnsupportedError(f"a driver {name} is installed", hint="choose another name")
    module = name.replace("-", "_")
    if importlib.util.find_spec(module):
        raise UnsupportedError(f"a Python module {module} is installed", hint="choose another name")
    return module
