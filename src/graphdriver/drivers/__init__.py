"""Ready-made drivers, one file each, and how a driver is found and made.

Drivers are found by entry point (group ``graphdriver.drivers``), so that another package's are
beside ours, or named as ``module:Class``. What is imported is somebody's code: whatever it raises
is an error that says where, and it keeps nobody from the other drivers.
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
    """Return the drivers that are installed, by name; for one that cannot be used, why."""
    found: dict[str, type[ProtoDriver] | GraphDriverError] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            found[point.name] = load(_place(point))
        except GraphDriverError as error:
            found[point.name] = error
    return found


def load(spec: str) -> type[ProtoDriver]:
    """Return a driver's class.

    Args:
        spec: the name of an installed driver, or ``module:Class``.

    Raises:
        UnsupportedError: there is no such driver, or it cannot be imported, or is none.
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
                f"there is no driver {spec!r}",
                hint=f"installed are {', '.join(sorted(points.names))}; or name module:Class",
            )
        module, _, name = _place(points[spec]).partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise UnsupportedError(f"driver {spec} cannot be imported: {described(error)}") from error
    if not (isinstance(found, type) and issubclass(found, ProtoDriver)):
        raise UnsupportedError(f"{spec} is no driver: it does not extend ProtoDriver")
    missing: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
    if missing:
        raise UnsupportedError(
            f"driver {spec} is not complete: it has no {', '.join(sorted(missing))}",
            hint="write these methods; graphdriver.driver tells what each one does",
        )
    return found


def _place(point: importlib.metadata.EntryPoint) -> str:
    """Return what an entry point names, as ``module:Class``: without its extras, well-formed or not."""
    place = point.value.partition("[")[0].strip()
    return place if ":" in place else f"{place}:"


def make(spec: str) -> ProtoDriver:
    """Return a new driver; ``spec`` as for `load`.

    Raises:
        UnsupportedError: as for `load`, or its constructor wants arguments or fails.
    """
    cls = load(spec)
    try:
        inspect.signature(cls).bind()
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"driver {spec} cannot be made: its constructor must take no arguments ({error})",
            hint="give each a default; options come with init",
        ) from error
    try:
        return cls()
    except GraphDriverError:
        raise
    except (Exception, SystemExit) as error:
        raise UnsupportedError(f"driver {spec} cannot be made: {described(error)}") from error


def described(error: BaseException) -> str:
    """Put what somebody's code raised into one line: its text, its type, and where it was raised."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error that has no text"
    if isinstance(error, SyntaxError):  # which tells the place itself
        return f"{type(error).__name__}: {text}"
    if not isinstance(error, ImportError | AttributeError | OSError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame.filename)]
    if not theirs:
        return text
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})"


def _is_ours(file: str) -> bool:
    """Tell whether a file only calls what others wrote: ours, or one of Python's import system."""
    ours = (__file__, os.path.join(os.path.dirname(__file__), "choice.py"), importlib.__file__)
    return file.startswith("<frozen ") or file in ours
