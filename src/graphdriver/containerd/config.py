"""The part of containerd's configuration that names a snapshotter, for each version of containerd.

One list of settings is printed, and compared with a file. (containerd, docs/PLUGINS.md,
docs/cri/config.md, and the migrations of its configuration: versions 3 and 4 have the same plugins.)
"""

from __future__ import annotations

import glob
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from graphdriver.errors import GraphDriverError, MalformedRequestError

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}
_VERSION: Final = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?!\d)")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key that TOML takes without quotes."""

_CAPABILITIES: Final = "capabilities"
_UNPACKS: Final = "max_concurrent_unpacks"

_NEWEST: Final = 999
"""Stands for the last release of a version that is given without it."""


class Version(NamedTuple):
    """A version of containerd."""

    major: int
    minor: int
    patch: int = _NEWEST

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a version: ``2.1``, ``v1.7.24~ds1``.

        Raises:
            MalformedRequestError: it is none, or older than 1.6.
        """
        found = _VERSION.match(text)
        if not found:
            raise MalformedRequestError(f"{text[:80]!r} is not a version of containerd")
        major, minor, patch = found.groups()
        version = cls(int(major), int(minor), _NEWEST if patch is None else int(patch))
        if version < (1, 6):
            raise MalformedRequestError(f"containerd {text[:80]} is older than 1.6")
        return version

    @property
    def file_version(self) -> int:
        """The newest version of the configuration that it reads."""
        if self < (2,):
            return 2
        return 3 if self < (2, 3) else 4

    @property
    def has_diff_service(self) -> bool:
        """Whether it takes a diff service of somebody else's; 1.6 does not start with one."""
        return self >= (1, 7, 20)

    @property
    def unpacks_in_parallel(self) -> bool:
        """Whether it can unpack several layers of an image at the same time."""
        return self >= (2, 2)


class Snapshotter(NamedTuple):
    """A snapshotter, as containerd is to know it.

    Attributes:
        name: containerd's name for it.
        address: the absolute path of its socket.
        root: the absolute path of the directory with its layers.
        machine: the processor, as uname(2) names it.
        takes_parent_later: whether its driver has `graphdriver.abilities.TakesParentLater`.
    """

    name: str
    address: str
    root: str
    machine: str
    takes_parent_later: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the configuration.

    Attributes:
        path: its name, part by part.
        values: what is set in it.
        why: what it is for.
        one_of: it is one of an array of tables: the one that has the same value under this key.
        hint: a line that may be set as well.
    """

    path: tuple[str, ...]
    values: Mapping[str, str | bool | int | list[str]]
    why: str
    one_of: str = ""
    hint: str = ""


def tables(one: Snapshotter, version: Version, file_version: int) -> Iterator[Table]:
    """Yield the tables for a snapshotter.

    Args:
        one: the snapshotter.
        version: containerd's.
        file_version: that of the configuration.
    """
    differ = f"{one.name}-diff"
    is_parallel = version.unpacks_in_parallel and one.takes_parent_later
    yield Table(
        ("proxy_plugins", one.name),
        {
            "type": "snapshot",
            "address": one.address,
            # Only together with the diff service: containerd's own differ writes the whiteouts of a
            # layer without a parent as files.
            **({_CAPABILITIES: ["rebase"]} if is_parallel else {}),
        },
        "",
        hint="" if version < (2,) else _remap("rebase" if is_parallel else ""),
    )
    yield Table(
        ("proxy_plugins", one.name, "exports"),
        {"root": one.root, "enable_remote_snapshot_annotations": "true"},
        "Kubernetes: where kubelet measures how full the disk of images and containers is",
    )
    if version.has_diff_service:
        yield Table(
            ("proxy_plugins", differ),
            {"type": "diff", "address": one.address},
            "layers are applied and made by the driver",
        )
        yield Table(
            ("plugins", "io.containerd.service.v1.diff-service"),
            {"default": [differ, "walking"]},
            "walking is containerd's own, for other snapshotters",
        )
    cri = (
        ("plugins", "io.containerd.grpc.v1.cri", "containerd")
        if file_version < 3
        else ("plugins", "io.containerd.cri.v1.images")
    )
    yield Table(
        cri,
        {"snapshotter": one.name, "disable_snapshot_annotations": False},
        "Kubernetes: images and containers of the CRI plugin",
    )
    transfer = ("plugins", "io.containerd.transfer.v1.local")
    if is_parallel:
        yield Table(
            transfer,
            {_UNPACKS: 4},
            "how many layers of an image are unpacked at the same time",
        )
    if version >= (1, 7):
        yield Table(
            (*transfer, "unpack_config"),
            {
                "platform": f"linux/{_ARCHITECTURES.get(one.machine, one.machine)}",
                "snapshotter": one.name,
                "differ": differ if version.has_diff_service else "walking",
            },
            "imports and pulls through the transfer service; one replaces the default",
            one_of="snapshotter",
        )


def _remap(other: str) -> str:
    capabilities = [*filter(None, (other,)), "remap-ids"]
    return (
        "# Linux 5.19, not on erofs: containers with IDs of their own, without a copy of their"
        " image\n"
        f"# {_CAPABILITIES} = {_toml(capabilities)}\n"
    )


def config(one: Snapshotter, version: Version) -> str:
    """Return the lines for ``/etc/containerd/config.toml``."""
    file_version = version.file_version
    parts = [f"version = {file_version}\n"]
    for table in tables(one, version, file_version):
        why = f"# {table.why}\n" if table.why else ""
        lines = (f"{key} = {_toml(value)}\n" for key, value in table.values.items())
        parts.append(f"{why}{_header(table)}\n{''.join(lines)}{table.hint}")
    return "\n".join(parts)


def missing(path: str, one: Snapshotter, version: Version) -> list[str]:
    """Return what a configuration lacks for a snapshotter, a sentence for each setting.

    Args:
        path: the file; the files that it imports are read too.
        one: the snapshotter.
        version: containerd's.

    Raises:
        MalformedRequestError: the file cannot be read, or is no configuration.
    """
    content = _loaded(path)
    file_version = content.get("version", 1)
    if file_version not in (2, 3, 4):
        raise MalformedRequestError(
            f"{path} has version {file_version!r}",
            hint="2, 3 and 4 are known; see `containerd config`",
        )
    if file_version > version.file_version:
        newest = version.file_version
        return [
            f"version = {file_version}: containerd {version.major}.{version.minor} reads {newest}"
        ]
    found = []
    for table in tables(one, version, file_version):
        present = _present(content, table)
        for key, value in table.values.items():
            given = present.get(key)
            if given == value or _is_default(key, given) or _is_as_good(key, value, given):
                continue
            state = "is not set" if given is None else f"is {_toml(given)}"
            why = f" ({table.why})" if table.why else ""
            found.append(f"{_header(table)} {key} {state}; set {key} = {_toml(value)}{why}")
    return found


def _is_default(key: str, given: object) -> bool:
    return key == "enable_remote_snapshot_annotations" and given is None


def _is_as_good(key: str, value: object, given: object) -> bool:
    """Tell whether a setting does the same: the wanted differ comes first, a capability is there."""
    if key == _UNPACKS:
        return isinstance(given, int) and given > 1
    if not isinstance(value, list) or not isinstance(given, list):
        return False
    return all(one in given for one in value) if key == _CAPABILITIES else given[:1] == value[:1]


def _present(content: Mapping[str, Any], table: Table) -> Mapping[str, Any]:
    """Return what a configuration has of a table; nothing if it has none."""
    at: Any = content
    for part in table.path:
        at = at.get(part) if isinstance(at, Mapping) else None
    if table.one_of:
        wanted = table.values[table.one_of]
        some = at if isinstance(at, list) else []
        at = next(
            (one for one in some if isinstance(one, Mapping) and one.get(table.one_of) == wanted),
            None,
        )
    return at if isinstance(at, Mapping) else {}


def _loaded(path: str) -> dict[str, Any]:
    """Read a configuration and the files that it imports.

    Raises:
        MalformedRequestError: one cannot be read, or is not TOML.
    """
    content = _read(path)
    imports = content.get("imports", [])
    for pattern in imports if isinstance(imports, list) else []:
        for name in sorted(glob.glob(os.path.join(os.path.dirname(path), str(pattern)))):
            _merge(content, _read(name))
    return content


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise MalformedRequestError(f"{path} cannot be read as a configuration: {error}") from error


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Add an imported file: tables are merged, lists are joined, the later value counts."""
    for key, value in other.items():
        former = into.get(key)
        if isinstance(former, dict) and isinstance(value, Mapping):
            _merge(former, value)
        elif isinstance(former, list) and isinstance(value, list):
            into[key] = former + value
        else:
            into[key] = value


def _header(table: Table) -> str:
    name = ".".join(part if _BARE.fullmatch(part) else _toml(part) for part in table.path)
    return f"[[{name}]]" if table.one_of else f"[{name}]"


def _toml(value: object) -> str:
    """Return a value as TOML: its strings, lists and truth values are written as in JSON."""
    try:
        return json.dumps(value, ensure_ascii=False).encode().decode()
    except UnicodeEncodeError as error:
        raise GraphDriverError(
            f"{value!r} cannot stand in a configuration: it is no text"
        ) from error
