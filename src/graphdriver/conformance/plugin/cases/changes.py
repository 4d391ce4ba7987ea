"""Changes, as ``docker diff`` shows them, in any order."""

from __future__ import annotations

import os
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect
from graphdriver.conformance.kit.tree import LONG, ODD_NAMES, edit, remove
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.cases.chains import build_at
from graphdriver.conformance.plugin.diffs import expect_changes, line
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("changes", "Changes, as docker diff shows them")


def _expect(kit: Kit, fill: object, *expected: str) -> None:
    """Change the tree of `build`, and compare Changes."""
    base = kit.layer(fill=build_at)
    layer = kit.layer(base, fill)  # type: ignore[arg-type]
    expect_changes("Changes", kit.driver, layer, base, expected)


@GROUP.case(see=references.DOCKER_DIFF)
def all_kinds(kit: Kit) -> None:
    """Everything added, modified or deleted is listed, and its directories as modified.

    docker diff shows Changes unfiltered. What is missing there is missing for the user, who looks
    for it before docker commit.
    """
    _expect(
        kit,
        edit,
        "C /bin",
        "C /bin/ping",
        "C /bin/wall",
        "D /deep",
        "C /etc",
        "C /etc/empty-directory",
        "D /etc/passwd",
        "C /hard",
        "A /hard/new",
        "A /hard/new2",
        "C /link",
        "A /link/inside",
        "C /odd",
        "A /odd/new",
        *(line("D", b"odd/" + name) for name in ODD_NAMES if len(name) < LONG),
        "C /tmp",
    )


@GROUP.case(see=references.DOCKER_DIFF)
def against_nothing(kit: Kit) -> None:
    """Against no parent all that the layer shows is added; the root directory is not listed.

    A daemon asks without a parent for a first layer. Everything in it is new.
    """
    layer = kit.layer(fill=build_at)
    expected = [line("A", path) for path in kit.record(layer)]
    expect_changes("Changes", kit.driver, layer, "", expected)


@GROUP.case()
def against_any_ancestor(kit: Kit) -> None:
    """Against a layer further below, a change that was undone is not listed.

    A file that one layer changed and the next changed back is not different from the ancestor.
    docker diff must not list it.
    """
    one = kit.layer(fill=build_at)
    two = kit.layer(one, lambda root: (root / "passing").touch())
    three = kit.layer(two, lambda root: os.rename(root / "passing", root / "etc" / "lasting"))
    expect_changes("Changes", kit.driver, three, one, ["C /etc", "A /etc/lasting"])
    expect_changes(
        "Changes against the parent",
        kit.driver,
        three,
        two,
        ["C /etc", "A /etc/lasting", "D /passing"],
    )


@GROUP.case(see=references.DOCKER_DIFF)
def deleted_directory_is_one_change(kit: Kit) -> None:
    """The content of a directory that was deleted, or became a file, is not listed.

    Docker's own drivers list the directory alone. A list of everything that was in it would be as
    long as the image.
    """

    def change(root: Path) -> None:
        remove(root / "deep")
        remove(root / "hard")
        (root / "hard").write_text("a file")

    _expect(kit, change, "D /deep", "C /hard")


@GROUP.case(see=references.DOCKER_DIFF)
def copied_up_files_are_unchanged(kit: Kit) -> None:
    """A file that was copied up, and has the content and mode of the layer below, is not listed.

    On an overlay a file is copied up if it is opened for writing. docker diff would list files that
    nobody changed.
    """

    def touch(root: Path) -> None:
        with open(root / "etc" / "passwd", "r+b"):
            pass
        os.chmod(root / "tmp", 0o1777)
        os.chmod(root / "etc" / "empty-directory", 0o700)
        os.chown(root / "etc" / "empty", 1000, 1001)

    _expect(kit, touch)


@GROUP.case(see=references.DOCKER_DIFF)
def directories_by_mode_and_owner(kit: Kit) -> None:
    """A directory is modified by mode, owner or attributes, not by time; the root is never listed.

    Each file that is created changes its directory's time and size. That is no change of the
    directory itself.
    """

    def change(root: Path) -> None:
        os.utime(root / "devices", (1, 1))
        os.chmod(root / "hard", 0o700)
        os.chown(root / "etc" / "empty-directory", 5, 5)
        os.setxattr(root / "bin", "trusted.new", b"1")
        os.chmod(root, 0o711)

    _expect(kit, change, "C /bin", "C /etc", "C /etc/empty-directory", "C /hard")


@GROUP.case(see=references.DOCKER_DIFF)
def files_by_all_attributes(kit: Kit) -> None:
    """A file is modified if mode, owner, time, size, type or capability differs.

    A chmod or chown in a build step is a change, although the content is the same. If it is missed,
    the image lacks it.
    """

    def change(root: Path) -> None:
        os.chmod(root / "etc" / "passwd", 0o600)
        os.chown(root / "etc" / "empty", 1000, 1000)
        os.utime(root / "holes", ns=(5, 1_000_000_005))
        times = os.stat(root / "bin" / "su")
        with open(root / "bin" / "su", "ab") as file:
            file.write(b"x")
        os.utime(root / "bin" / "su", ns=(times.st_atime_ns, times.st_mtime_ns))
        os.removexattr(root / "bin" / "ping", "security.capability")
        os.unlink(root / "dangling")
        (root / "dangling").write_text("a file where a link was")

    _expect(
        kit,
        change,
        "C /bin",
        "C /bin/ping",
        "C /bin/su",
        "C /dangling",
        "C /etc",
        "C /etc/empty",
        "C /etc/passwd",
        "C /holes",
    )


@GROUP.case(see=references.UNSEEN_CHANGES, required=False)
def same_size_and_time(kit: Kit) -> None:
    """A file with other content, or a link with another target, is modified at equal size and time.

    Package managers and reproducible builds set the same times on every file. A driver that
    compares only size and time loses such changes.
    """
    base = kit.layer(fill=build_at)

    def disguise(root: Path) -> None:
        before = os.stat(root / "etc" / "passwd")
        (root / "etc" / "passwd").write_text("toor" + (root / "etc" / "passwd").read_text()[4:])
        os.utime(root / "etc" / "passwd", ns=(before.st_atime_ns, before.st_mtime_ns))
        before = os.lstat(root / "link")
        (root / "link").unlink()
        (root / "link").symlink_to("etc/PASSWD")
        os.chown(root / "link", before.st_uid, before.st_gid, follow_symlinks=False)
        times = (before.st_atime_ns, before.st_mtime_ns)
        os.utime(root / "link", ns=times, follow_symlinks=False)

    layer = kit.layer(base, disguise)
    expected = ["C /etc", "C /etc/passwd", "C /link"]
    expect_changes("Changes", kit.driver, layer, base, expected)
    found = kit.record(kit.applied(kit.diff(layer, base), base))
    expect("the file's content", found[b"etc/passwd"].content[:4], b"toor")


@GROUP.case(see=references.DOCKER_DIFF, required=False)
def times_without_nanoseconds(kit: Kit) -> None:
    """Two times in the same second are equal if either has no nanoseconds, as in many tars.

    Many tars store whole seconds. After such a layer was applied, a comparison to the nanosecond
    would call every file modified.
    """
    base = kit.applied(tars.tar(tars.file(b"same", mtime=5), tars.file(b"other", mtime=5)))

    def change(root: Path) -> None:
        os.utime(root / "same", ns=(0, 5_500_000_000))
        os.utime(root / "other", ns=(0, 6_500_000_000))

    layer = kit.layer(base, change)
    expect_changes("Changes", kit.driver, layer, base, ["C /other"])


@GROUP.case(see=references.DOCKER_DIFF, required=False)
def sorted_by_name(kit: Kit) -> None:
    """Changes are sorted by name.

    The daemon shows the list in the order of the response. A list in another order each time cannot
    be read, or compared.
    """
    base = kit.layer(fill=build_at)
    layer = kit.layer(base, edit)
    paths = [line("", change.path) for change in kit.driver.changes(layer, base)]
    expect("the order of Changes", paths, sorted(paths))
