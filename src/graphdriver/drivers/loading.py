"""The loader of drivers by their names.

Each driver has an entry point in the group ``graphdriver.drivers`` (pyproject.toml has ours), so
drivers of other packages are found like our own. A driver without one is named as ``module:Class``.

A driver's module may be anybody's code. Every exception of it becomes an error that names the line, and
other drivers can still be used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import traceback

from graphdriver.driver import ProtoDriver
from graphdriver.errors import GraphDriverError, UnsupportedError

ENTRY_POINTS = "graphdriver.drivers"


def available() -> dict[str, type[ProtoDriver] | GraphDriverError]:
    """Return the installed drivers by name; instead of one that cannot be used, the error."""
    found: dict[str, type[ProtoDriver] | GraphDriverError] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            found[point.name] = load(_target(point))
        except GraphDriverError as error:
            found[point.name] = error
    return found


def load(spec: str) -> type[ProtoDriver]:
    """Return a driver's class.

    Args:
        spec: the name of an installed driver, or ``module:Class``.

    Raises:
        UnsupportedError: the driver does not exist, cannot be imported, or is not a driver.
    """
    module, colon, name = spec.partition(":")
    if "/" in module or module.endswith(".py"):
        plain = os.path.basename(module).removesuffix(".py")
        raise UnsupportedError(
            f"driver {spec}: {module} is a path, not a module",
            hint=f"change to the file's directory and name {plain}:{name or 'Class'}",
        )
    if not colon:
        points = importlib.metadata.entry_points(group=ENTRY_POINTS)
        if spec not in points.names:
            raise UnsupportedError(
                f"driver {spec!r} does not exist",
                hint=f"use one of {', '.join(sorted(points.names))}, or module:Class",
            )
        module, _, name = _target(points[spec]).partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise UnsupportedError(
            f"driver {spec} cannot be imported: {describe_exception(error)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, ProtoDriver)):
        raise UnsupportedError(f"{spec} is not a driver: it does not extend ProtoDriver")
    missing: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
    if missing:
        raise UnsupportedError(
            f"driver {spec} is incomplete: it lacks {', '.join(sorted(missing))}",
            hint="write these methods; graphdriver.driver documents them",
        )
    return found


def load_installed(name: str) -> type[ProtoDriver]:
    """Return the class of a driver that a home's record names.

    Raises:
        UnsupportedError: it is not installed, or as for `load`.
    """
    # A text from a file must not choose a module that is imported.
    if ":" in name:
        raise UnsupportedError(f"the driver {name} is not installed here")
    return load(name)


def distribution_of(name: str) -> str:
    """Return the name of the Python distribution that an installed driver is in.

    Raises:
        UnsupportedError: no installed driver has this name.
    """
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    found = [point.dist for point in points if point.name == name and point.dist]
    if not found:
        raise UnsupportedError(
            f"driver {name!r} is not installed",
            hint=f"use one of {', '.join(sorted(points.names))}, or install its package with an entry"
            f" point in the group {ENTRY_POINTS}",
        )
    return found[0].name


def _target(point: importlib.metadata.EntryPoint) -> str:
    """Return an entry point's ``module:Class``, without its extras."""
    target = point.value.partition("[")[0].strip()
    return target if ":" in target else f"{target}:"


def make(spec: str) -> ProtoDriver:
    """Return a new driver; ``spec`` as for `load`.

    Raises:
        UnsupportedError: as for `load`; or its constructor requires arguments, or fails.
    """
    cls = load(spec)
    try:
        inspect.signature(cls).bind()
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"driver {spec} cannot be made: its constructor must take no arguments ({error})",
            hint="give each one a default; options arrive with init",
        ) from error
    try:
        return cls()
    except GraphDriverError:
        raise
    except (Exception, SystemExit) as error:
        raise UnsupportedError(
            f"driver {spec} cannot be made: {describe_exception(error)}"
        ) from error


def describe_exception(error: BaseException) -> str:
    """Return an exception of a driver's code in one line: the text, the type, and the line of code."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error without a text"
    if isinstance(error, SyntaxError):  # its text names the line
        return f"{type(error).__name__}: {text}"
    if not isinstance(error, ImportError | AttributeError | OSError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame.filename)]
    if not theirs:
        return text
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})"


def _is_ours(file: str) -> bool:
    """Tell whether a file only calls the driver's code: one of ours, or of Python's import system."""
    ours = (__file__, os.path.join(os.path.dirname(__file__), "choice.py"), importlib.__file__)
    return file.startswith("<frozen ") or file in ours
