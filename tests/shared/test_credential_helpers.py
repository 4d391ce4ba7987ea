"""Docker's credential helpers: which one is asked, what it may answer; nothing of it is shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from graphdriver.errors import UnsupportedError
from graphdriver.shared import credential_helper
from graphdriver.shared.credentials import Credentials, credentials_for

HOST = "registry.example:5000"
SECRET = "correct horse"
ANSWER = json.dumps({"ServerURL": HOST, "Username": "me", "Secret": SECRET})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with Docker's configuration, and one of programs on PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    configure(tmp_path, credsStore="test")
    return tmp_path


def configure(place: Path, **members: object) -> None:
    (place / "config.json").write_text(json.dumps(members))


def helper(place: Path, script: str, name: str = "test") -> None:
    program = place / "bin" / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def says(text: str) -> str:
    return f"printf %s '{text}'"


def found() -> Credentials | None:
    return credentials_for(HOST, "site/layers")


def test_a_helper_is_asked_for_the_registry(place: Path) -> None:
    helper(place, f'echo "$@" > {place}/asked; cat >> {place}/asked; {says(ANSWER)}')
    assert found() == Credentials("me", SECRET)
    assert (place / "asked").read_text() == f"get\n{HOST}"


def test_the_registrys_own_helper_comes_before_the_one_for_all(place: Path) -> None:
    helper(place, says(ANSWER), "own")
    helper(place, "exit 3")
    configure(place, credsStore="test", credHelpers={HOST: "own", "other": "test"})
    assert found() == Credentials("me", SECRET)


def test_a_helper_comes_before_the_entries_of_the_file(place: Path) -> None:
    helper(place, says(ANSWER))
    entry = {"username": "old", "password": "old"}
    configure(place, credsStore="test", auths={HOST: entry})
    assert found() == Credentials("me", SECRET)


def test_a_helper_that_has_none_leaves_the_entries_of_the_file(place: Path) -> None:
    helper(place, f"{says('credentials not found in native keychain')}; exit 1")
    assert found() is None
    entry = {"username": "you", "password": "other"}
    configure(place, credsStore="test", auths={HOST: entry})
    assert found() == Credentials("you", "other")


def test_an_entry_without_a_password_is_none(place: Path) -> None:
    configure(place, auths={HOST: {"email": "me@example"}})
    assert found() is None


def test_a_token_of_the_registry_has_a_name_of_its_own(place: Path) -> None:
    helper(place, says(json.dumps({"Username": "<token>", "Secret": SECRET})))
    assert found() == Credentials("", "", SECRET)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (f"{says(SECRET)}; echo {SECRET} >&2; exit 1", "ends with 1"),
        ("kill -9 $$", "ends with -9"),
        (says(SECRET), "gives no user name and secret"),
        (says("[]"), "gives no user name and secret"),
        (says(f'{{"Username": 1, "Secret": "{SECRET}"}}'), "gives no user name and secret"),
        (says("[" * 100_000), "gives no user name and secret"),
        ("printf '\\377'", "gives no user name and secret"),
        ("exec 0<&-; yes", "prints too much"),
        ("sleep 100", "gave no answer in"),
        ("exec >&-; sleep 100", "gave no answer in"),
        ("sleep 100 & exit 0", "gave no answer in"),
        ("while :; do echo; sleep 0.01; done", "gave no answer in"),
    ],
)
def test_what_a_helper_does_wrong_is_told_and_not_shown(
    script: str,
    problem: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "gave no answer" in problem:
        monkeypatch.setattr(credential_helper, "TIMEOUT", 0.2)
    helper(place, script)
    with pytest.raises(UnsupportedError, match=problem) as told:
        found()
    assert SECRET not in str(told.value)
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["../evil", "/bin/evil", "a/b", "", ".", "-x", "a\0b", "a b", 1])
def test_a_name_that_leads_elsewhere_is_refused(name: object, place: Path) -> None:
    program = place / "evil"
    program.write_text(f"#!/bin/sh\ntouch {place}/ran\n")
    program.chmod(0o755)
    configure(place, credHelpers={HOST: name})
    if name:
        with pytest.raises(UnsupportedError, match=r"credential helper's name|are damaged"):
            found()
    else:
        assert found() is None
    assert not (place / "ran").exists()


@pytest.mark.parametrize("path", ["", ".", "bin", ":"])
def test_no_program_of_the_current_directory_is_run(
    path: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(place, says(ANSWER))
    monkeypatch.chdir(place / ("" if path == "bin" else "bin"))
    monkeypatch.setenv("PATH", path)
    with pytest.raises(UnsupportedError, match="is not on the PATH"):
        found()


def test_what_a_helper_writes_is_for_its_user_alone(
    place: Path,
) -> None:
    helper(place, f"touch {place}/cache; {says(ANSWER)}")
    before = os.umask(0)
    try:
        assert found()
    finally:
        os.umask(before)
    assert (place / "cache").stat().st_mode & 0o777 == 0o600
