"""What is told of the changes of a layer, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from graphdriver.care.layer_changes import Total, read_changes, summed
from graphdriver.driver import Change, ChangeKind, ProtoDriver
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError
from graphdriver.homes import SizedChange

ADDED, MODIFIED, DELETED = ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED


def test_all_changes_are_counted_and_the_largest_are_listed() -> None:
    changes = [SizedChange(f"/file-{n:03}", ADDED, n) for n in range(100)]
    changes += [SizedChange("/gone", DELETED, 0), SizedChange("/etc/passwd", MODIFIED, 50)]
    found = summed(iter(changes), limit=3)
    assert found.totals == {
        ADDED: Total(100, sum(range(100))),
        MODIFIED: Total(1, 50),
        DELETED: Total(1, 0),
    }
    assert [change.path for change in found.listed] == ["/gone", "/file-099", "/file-098"]
    assert found.unlisted == 99


def test_a_directory_is_no_change_because_of_what_is_in_it() -> None:
    changes = [SizedChange("/etc/", MODIFIED, 0), SizedChange("/etc/new/", ADDED, 0)]
    assert [change.path for change in summed(changes, limit=10).listed] == ["/etc/new/"]


class Told(VfsDriver):
    """A driver whose class tells what a layer changed."""

    @classmethod
    def stored_changes(cls, home: str, id: str, parent: str) -> Iterator[SizedChange]:
        yield SizedChange("/a", ADDED, 1)
        if id == "damaged":
            raise GraphDriverError("its list was lost")
        if id == "unreadable":
            raise PermissionError(13, "Permission denied", f"{home}/unreadable")


def test_an_error_in_a_foreign_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "stored_changes", lambda *_: 1 / 0)
    problem = read_changes(Told, "/home", "whole", "", 10).problem
    assert problem.startswith("ZeroDivisionError: division by zero")


def test_a_layer_that_cannot_be_read_says_why() -> None:
    assert read_changes(Told, "/home", "whole", "", 10).totals[ADDED] == Total(1, 1)
    problems = [read_changes(Told, "/home", id, "", 10).problem for id in ("damaged", "unreadable")]
    assert problems == ["its list was lost", "/home/unreadable: Permission denied"]
    assert read_changes(Told, "/home", "whole", None, 10).problem == "its parent is unknown"


def test_a_driver_without_the_ability_says_so() -> None:
    class Foreign:
        driver_name = "somebodys"

    foreign = cast("type[ProtoDriver]", Foreign)
    problem = read_changes(foreign, "/home", "layer", "", 10).problem
    assert problem == "the driver's class cannot tell, and no plugin runs"


def test_a_plugin_is_asked_if_the_drivers_class_cannot_tell() -> None:
    def ask(id: str, parent: str) -> list[Change]:
        return [Change(f"/{id}-on-{parent}", ADDED)]

    found = read_changes(None, "/home", "top", "base", 10, ask)
    assert found.listed == (SizedChange("/top-on-base", ADDED, 0),)
    assert read_changes(Told, "/home", "whole", "", 10, ask).listed[0].path == "/a"
