"""The completion of the command line, by the shells themselves."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.documented import ROOT
from tests.support.ground import tool

BASH = """
source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_graphdriver graphdriver "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = """
source $argv[1]
complete --do-complete "$argv[2..]"
"""

ZSH = """
PS1=; fpath=("{directory}" $fpath); autoload -Uz compinit; compinit -u -D
graphdriver() {{ printf '<%s>\\n' "$argv[-1]"; exit }}
{line}\t
"""

Complete = Callable[[Path, Sequence[str]], list[str]]


def by_bash(directory: Path, words: Sequence[str]) -> list[str]:
    script = directory / "graphdriver"
    script.write_text(completion("bash"))
    found = run("bash", "--norc", "-c", BASH, str(script), *words)
    return [one.strip() for one in found.splitlines()]


def by_fish(directory: Path, words: Sequence[str]) -> list[str]:
    script = directory / "graphdriver.fish"
    script.write_text(completion("fish"))
    found = run(tool("fish"), "--no-config", "-c", FISH, str(script), *words)
    return [one.partition("\t")[0].rstrip("/") for one in found.splitlines()]


def by_zsh(directory: Path, words: Sequence[str]) -> list[str]:
    """Type the line and a tab on a terminal: what the command gets then is what zsh completed."""
    (directory / "_graphdriver").write_text(completion("zsh"))
    typed = ZSH.format(directory=directory, line=" ".join(words))
    shown = run(tool("script"), "-qec", f"{tool('zsh')} -f", "/dev/null", typed=typed)
    lines = (one.strip() for one in shown.splitlines())
    return [one.strip("<>").rstrip("/") for one in lines if one.startswith("<")]


@pytest.mark.parametrize("complete", [by_bash, by_fish, by_zsh], ids=["bash", "fish", "zsh"])
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["fs"], "fsck"),
        (["serve", "overl"], "overlay2"),
        (["migrate", "--to", "ero"], "erofs"),
        (["gc", "--contain"], "--containerd-root"),
        (["fsck", "{directory}/ho"], "{directory}/home"),
        (["serve", "--tlscert", "{directory}/cer"], "{directory}/cert.pem"),
    ],
    ids=["command", "driver", "driver of an option", "option", "directory", "file"],
)
def test_a_shell_completes(
    tmp_path: Path, complete: Complete, typed: list[str], completed: str
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "cert.pem").touch()
    words = ["graphdriver", *(one.format(directory=tmp_path) for one in typed)]
    assert complete(tmp_path, words) == [completed.format(directory=tmp_path)]


@functools.cache
def completion(shell: str) -> str:
    command = [sys.executable, "-m", "release.completions", shell]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def run(*command: str, typed: str = "") -> str:
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
