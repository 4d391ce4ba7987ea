from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.allowed_differences import ALLOWED
from tests.e2e.steps import Steps, make_image
from tests.support.daemon import Daemon


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Path:
    return make_image(tmp_path_factory.mktemp("image"), busybox)


@pytest.mark.reaches(
    "Create",
    "ApplyDiff",
    "CreateReadWrite",
    "Get",
    "Put",
    "Changes",
    "Diff",
    "DiffSize",
    "GetMetadata",
    "Status",
    "Remove",
)
def test_every_command_shows_what_it_shows_on_dockers_own_driver(
    ours: Daemon, theirs: Daemon, driver: str, image: Path, tmp_path: Path
) -> None:
    shown_by_theirs = Steps(theirs, tmp_path, image).take()
    shown_by_ours = Steps(ours, tmp_path, image).take()
    assert shown_by_ours.keys() == shown_by_theirs.keys()

    allowed_here = [allowed for allowed in ALLOWED if driver in allowed.drivers]
    wrong, used = [], set[str]()
    for step, lines in shown_by_ours.items():
        only_ours = Counter(lines) - Counter(shown_by_theirs[step])
        only_theirs = Counter(shown_by_theirs[step]) - Counter(lines)
        for allowed in allowed_here:
            if re.fullmatch(allowed.steps, step):
                for only, pattern in ((only_ours, allowed.ours), (only_theirs, allowed.theirs)):
                    for line in [line for line in only if re.fullmatch(pattern, line)]:
                        del only[line]
                        used.add(pattern)
        wrong += [f"{step}: ours:   {line}" for line in only_ours]
        wrong += [f"{step}: theirs: {line}" for line in only_theirs]
    for allowed in allowed_here:
        wrong += [f"never seen: {it}" for it in {allowed.ours, allowed.theirs} - {""} - used]
    assert not wrong, "\n" + "\n".join(wrong)
