"""Keys, and certificates of authorities, by which another user could become root."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.docker.address.tls import client_side, server_side
from graphdriver.errors import UnsupportedError
from tests.support.certificates import Certificates, make


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("tls") / "ours")


def of_the_plugin(certificates: Certificates) -> None:
    server_side(*certificates.plugin)


def of_the_daemon(certificates: Certificates) -> None:
    client_side(certificates.daemon)


KEYS: list[tuple[Callable[[Certificates], None], str]] = [
    (of_the_plugin, "plugin-key"),
    (of_the_daemon, "daemon-key"),
]
AUTHORITIES = [(of_the_plugin, "ca"), (of_the_daemon, "ca")]


@pytest.fixture
def file(certificates: Certificates, name: str) -> Path:
    """A file that is as it was again afterwards."""
    path = Path(certificates[name])
    path.chmod(0o600)
    os.chown(path, 0, 0)
    return path


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o602, 0o601])
@pytest.mark.parametrize(("load", "name"), KEYS)
def test_a_key_that_others_can_read_is_refused(
    certificates: Certificates,
    load: Callable[[Certificates], None],
    name: str,
    file: Path,
    mode: int,
) -> None:
    file.chmod(mode)
    try:
        with pytest.raises(UnsupportedError, match=f"{file} has mode {mode:04o}.*can read it"):
            load(certificates)
    finally:
        file.chmod(0o600)


@pytest.mark.parametrize(("load", "name"), [*KEYS, *AUTHORITIES])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_a_file_that_root_alone_or_a_group_can_read_is_taken(
    certificates: Certificates, load: Callable[[Certificates], None], file: Path, mode: int
) -> None:
    file.chmod(mode)
    load(certificates)


@pytest.mark.root
@pytest.mark.parametrize(("load", "name"), [*KEYS, *AUTHORITIES])
def test_a_file_of_another_user_is_refused(
    certificates: Certificates, load: Callable[[Certificates], None], file: Path
) -> None:
    os.chown(file, 1000, 0)
    try:
        with pytest.raises(UnsupportedError, match=f"{file} belongs to user 1000.*become root"):
            load(certificates)
    finally:
        os.chown(file, 0, 0)


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
@pytest.mark.parametrize(("load", "name"), AUTHORITIES)
def test_an_authority_that_others_can_write_to_is_refused(
    certificates: Certificates, load: Callable[[Certificates], None], file: Path, mode: int
) -> None:
    file.chmod(mode)
    try:
        with pytest.raises(UnsupportedError, match=f"{file} has mode {mode:04o}.*can write to it"):
            load(certificates)
    finally:
        file.chmod(0o600)
