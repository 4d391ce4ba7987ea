"""What ``graphdriver doctor`` concludes from facts: each subject's check, without a machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from graphdriver.care.doctor.containerd import ContainerdFacts, check_containerd
from graphdriver.care.doctor.daemon import DaemonFacts, check_daemon
from graphdriver.care.doctor.home import HomeFacts, check_home
from graphdriver.care.doctor.kernel import KernelFacts, check_kernel
from graphdriver.care.doctor.limits import LimitFacts, ProcessFacts, check_limits
from graphdriver.care.doctor.mounts import HeldElsewhere, HomeMount, MountFacts, check_mounts
from graphdriver.care.doctor.places import PlaceFacts, check_places
from graphdriver.care.doctor.propagation import PropagationFacts, check_propagation
from graphdriver.care.findings import Finding, Severity

GIB = 1 << 30


def bad(findings: Iterable[Finding]) -> dict[str, Severity]:
    """Return the findings that are more than notes, by code; each of them says what to do."""
    found = [one for one in findings if one.severity is not Severity.NOTE]
    assert all(one.advice for one in found)
    return {one.code: one.severity for one in found}


def notes(findings: Iterable[Finding]) -> set[str]:
    return {one.code for one in findings if one.severity is Severity.NOTE}


HOME = HomeFacts(
    "/h", "docker", "overlay2", size=100 * GIB, free=50 * GIB, inodes=10**7, inodes_free=9 * 10**6
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (HOME, {}),
        (replace(HOME, free=4 * GIB), {"low-space": Severity.WARNING}),
        (replace(HOME, free=4 * GIB, size=20 * GIB), {}),  # a small disk, a fifth of it free
        (replace(HOME, free=0), {"no-space": Severity.DAMAGE}),
        (replace(HOME, inodes_free=50_000), {"low-inodes": Severity.WARNING}),
        (replace(HOME, inodes_free=0), {"no-inodes": Severity.DAMAGE}),
        (replace(HOME, inodes=0, inodes_free=0), {}),  # btrfs has no fixed number
        (replace(HOME, flags=frozenset({"ro"})), {"read-only": Severity.DAMAGE}),
        (replace(HOME, flags=frozenset({"nodev"})), {"restricted-mount": Severity.WARNING}),
        (replace(HOME, fstype="tmpfs"), {"in-memory": Severity.WARNING}),
        (replace(HOME, fstype="nfs4"), {"unsuitable-filesystem": Severity.WARNING}),
        (replace(HOME, fstype="overlay"), {"unsuitable-filesystem": Severity.WARNING}),
        (replace(HOME, mode=0o711), {"open-home": Severity.WARNING}),
        (replace(HOME, uid=1000), {"open-home": Severity.WARNING}),
        (replace(HOME, version="1.0", installed="1.0"), {}),
        (replace(HOME, version="1.0", installed="1.1"), {"another-version": Severity.WARNING}),
        (replace(HOME, problem="the record is damaged"), {"unusable-home": Severity.DAMAGE}),
    ],
)
def test_a_home(facts: HomeFacts, expected: dict[str, Severity]) -> None:
    assert bad(check_home(facts)) == expected
    assert "home" in notes(check_home(facts))


KERNEL = KernelFacts("6.18.0", {"overlay2": "", "erofs": "this kernel has no EROFS"})


def test_a_kernel() -> None:
    assert bad(check_kernel(KERNEL)) == {}
    assert notes(check_kernel(KERNEL)) == {"kernel", "driver-unavailable"}
    assert bad(check_kernel(replace(KERNEL, release="5.4.0-150-generic"))) == {
        "old-kernel": Severity.DAMAGE
    }
    assert bad(check_kernel(replace(KERNEL, release="strange"))) == {}
    assert bad(check_kernel(replace(KERNEL, is_root=False))) == {"not-root": Severity.WARNING}


DAEMON = DaemonFacts(
    "/s", version="20.10.24+dfsg1", driver="py-x", data_root="/d", experimental=True
)


@pytest.mark.parametrize(
    ("facts", "expected", "noted"),
    [
        (DAEMON, {}, {"daemon"}),
        (DaemonFacts("/s", "no daemon listens there", is_absent=True), {}, {"no-daemon"}),
        (
            DaemonFacts("/s", "its answer is not HTTP"),
            {"daemon-answers-wrongly": Severity.WARNING},
            set(),
        ),
        (replace(DAEMON, experimental=False), {"not-experimental": Severity.WARNING}, {"daemon"}),
        (replace(DAEMON, driver="overlay2"), {"another-driver": Severity.WARNING}, {"daemon"}),
        (replace(DAEMON, version="27.3.1"), {}, {"daemon", "deprecated-plugins"}),
        (replace(DAEMON, version="28.0.0"), {"no-plugins": Severity.WARNING}, {"daemon"}),
        (replace(DAEMON, version="17.06.0"), {}, {"daemon", "untested-version"}),
        (replace(DAEMON, version=""), {}, {"daemon"}),
        (replace(DAEMON, version="9" * 100), {"no-plugins": Severity.WARNING}, {"daemon"}),
        (
            replace(DAEMON, version="28.5.2", driver="mine", has_image_store=True),
            {},
            {"daemon", "image-store"},
        ),
    ],
)
def test_a_daemon(facts: DaemonFacts, expected: dict[str, Severity], noted: set[str]) -> None:
    assert bad(check_daemon(facts, "py-x")) == expected
    assert notes(check_daemon(facts, "py-x")) == noted


def test_containerd() -> None:
    facts = ContainerdFacts("/c", version="1.6.20", snapshotters=frozenset({"mine", "native"}))
    assert bad(check_containerd(facts, "mine")) == bad(check_containerd(facts)) == {}
    assert bad(check_containerd(facts, "other")) == {"unknown-snapshotter": Severity.WARNING}
    assert notes(check_containerd(ContainerdFacts("/c", "no containerd listens there"))) == {
        "no-containerd"
    }


SOCKET = PlaceFacts("/run/docker/plugins/x.sock", "x", "unix:///run/docker/plugins/x.sock")
SPEC = PlaceFacts("/etc/docker/plugins/y.spec", "y", "unix:///y", is_socket=False, mode=0o644)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([SOCKET, SPEC], {}),
        ([replace(SOCKET, listens=None)], {}),
        ([replace(SOCKET, listens=False)], {"stale-place": Severity.WARNING}),
        ([replace(SPEC, listens=False)], {"stale-place": Severity.WARNING}),
        ([replace(SPEC, problem="it has no address")], {"damaged-place": Severity.WARNING}),
        ([SOCKET, replace(SPEC, name="x")], {"hidden-place": Severity.WARNING}),
        ([replace(SOCKET, name="overlay2")], {"built-in-name": Severity.WARNING}),
        ([replace(SOCKET, mode=0o666)], {"open-socket": Severity.DAMAGE}),
        ([replace(SOCKET, uid=1000)], {"open-socket": Severity.DAMAGE}),
        ([replace(SPEC, mode=0o664)], {"open-spec-file": Severity.DAMAGE}),
        ([replace(SPEC, is_open_port=True)], {"open-port": Severity.DAMAGE}),
        ([replace(SPEC, is_unverified=True)], {"unverified-plugin": Severity.WARNING}),
    ],
)
def test_places_of_plugins(places: list[PlaceFacts], expected: dict[str, Severity]) -> None:
    assert bad(check_places(places, frozenset({"overlay2"}))) == expected


MERGED = HomeMount("/h/a/merged", "overlay", 40, "a")
IMAGE = HomeMount("/h/b/applied", "erofs", 41, "b")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (MountFacts("/h"), []),
        (MountFacts("/h", (MERGED,)), ["/h/a/merged"]),
        (MountFacts("/h", (replace(MERGED, references=1),)), []),
        (MountFacts("/h", (replace(MERGED, container="web"),)), []),
        # Nothing explains the mount of a layer that is gone.
        (MountFacts("/h", (replace(MERGED, references=1, has_layer=False),)), ["/h/a/merged"]),
        # A process that serves the home unmounts images, and an overlay may use one.
        (MountFacts("/h", (IMAGE,), is_served=True), []),
        (MountFacts("/h", (IMAGE,)), ["/h/b/applied"]),
        (MountFacts("/h", (IMAGE, replace(MERGED, references=1))), []),
        (MountFacts("/h", (IMAGE, MERGED)), ["/h/b/applied", "/h/a/merged"]),
        (MountFacts("/h", (replace(IMAGE, has_layer=False),), is_served=True), ["/h/b/applied"]),
    ],
)
def test_mounts_that_nothing_explains(facts: MountFacts, expected: list[str]) -> None:
    found = [one for one in check_mounts(facts) if one.code == "leaked-mount"]
    assert [one.subject for one in found] == expected


def test_who_holds_a_mount_is_named_and_many_leaks_are_summed_up() -> None:
    held = replace(MERGED, holders=("process 7 (tail) has descriptor 3 there",))
    (found,) = [one for one in check_mounts(MountFacts("/h", (held,))) if one.code != "mounts"]
    assert "process 7 (tail) has descriptor 3 there" in found.text
    assert found.advice == "end these processes, then umount /h/a/merged"
    many = tuple(replace(MERGED, point=f"/h/{at}/merged", device=at) for at in range(1000))
    found_many = list(check_mounts(MountFacts("/h", many)))
    assert len(found_many) < 30
    assert "980 more leaked mounts" in found_many[-1].text
    elsewhere = MountFacts("/h", elsewhere=(HeldElsewhere("a", "process 9 (cron)"),))
    assert bad(check_mounts(elsewhere)) == {"held-elsewhere": Severity.WARNING}


PROPAGATION = PropagationFacts("/h", "mnt:[1]", "mnt:[1]", "/", is_shared=False)


@pytest.mark.parametrize(
    ("facts", "expected", "noted"),
    [
        (PROPAGATION, {}, "one-namespace"),
        (replace(PROPAGATION, plugin="mnt:[2]", is_shared=True), {}, "shared-mount"),
        (replace(PROPAGATION, plugin="mnt:[2]"), {"no-propagation": Severity.DAMAGE}, None),
        (replace(PROPAGATION, plugin=""), {}, "unknown-propagation"),
        (replace(PROPAGATION, daemon=""), {}, "unknown-propagation"),
    ],
)
def test_propagation(
    facts: PropagationFacts, expected: dict[str, Severity], noted: str | None
) -> None:
    assert bad(check_propagation(facts)) == expected
    assert notes(check_propagation(facts)) == ({noted} if noted else set())


PROCESS = ProcessFacts("plugin 7", 50, 65536, 20, 5000, GIB, 4 * GIB)


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (PROCESS, {}),
        (ProcessFacts("plugin 7"), {}),  # nothing could be read
        (replace(PROCESS, files_most=1024), {"few-files": Severity.WARNING}),
        (replace(PROCESS, files=60_000), {"process-limit": Severity.WARNING}),
        (replace(PROCESS, tasks=4999), {"process-limit": Severity.WARNING}),
        (replace(PROCESS, memory_most=64 << 20), {"little-memory": Severity.WARNING}),
        (replace(PROCESS, memory=4 * GIB), {}),  # caches fill a control group
        (
            replace(PROCESS, missing=frozenset({"CAP_MKNOD"})),
            {"missing-capabilities": Severity.WARNING},
        ),
    ],
)
def test_limits_of_a_process(process: ProcessFacts, expected: dict[str, Severity]) -> None:
    assert bad(check_limits(LimitFacts((process,)))) == expected


def test_limits_of_the_machine() -> None:
    assert bad(check_limits(LimitFacts(mounts=50, mounts_most=100_000))) == {}
    assert bad(check_limits(LimitFacts(mounts=95_000, mounts_most=100_000))) == {
        "machine-limit": Severity.WARNING
    }
    assert bad(check_limits(LimitFacts(files=990, files_most=1000))) == {
        "machine-limit": Severity.WARNING
    }


def test_advice_can_be_pasted_into_a_shell_whatever_a_path_is_called() -> None:
    path = "/h; reboot #"
    findings = [
        *check_home(replace(HOME, path=path, mode=0o777, problem="it is damaged")),
        *check_places([replace(SOCKET, path=path, mode=0o777, listens=False)], frozenset()),
        *check_places([replace(SPEC, path=path, mode=0o777, problem="it is damaged")], frozenset()),
        *check_mounts(MountFacts("/h", (replace(MERGED, point=path),))),
    ]
    commands = [one.advice for one in findings if path in one.advice]
    assert len(commands) == 7
    assert all(f"'{path}'" in one for one in commands)
