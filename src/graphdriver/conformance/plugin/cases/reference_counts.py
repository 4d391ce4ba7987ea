"""Get and Put: how long a layer stays mounted, also across a daemon's restart."""

from __future__ import annotations

import os

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import either_way, expect
from graphdriver.conformance.plugin import references, wire
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.linux.mountinfo import mount_points

GROUP: Group[Kit] = Group("reference-counts", "Get and Put, also across a daemon's restart")


def mounts_below(home: str) -> list[str]:
    """Return where something is mounted below a home."""
    start = os.fsencode(os.path.realpath(home)) + b"/"
    return [os.fsdecode(one.point) for one in mount_points() if one.point.startswith(start)]


def _two_layers(kit: Kit) -> str:
    below = kit.layer(fill=lambda root: (root / "below").write_text("x"))
    return kit.layer(below, lambda root: (root / "above").write_text("y"))


@GROUP.case()
def many_gets_one_directory(kit: Kit) -> None:
    """Twenty Gets of one layer return the same directory, which stays until the twentieth Put.

    docker cp, docker commit and docker export hold a container's layer at the same time, and each
    of them ends with one Put.
    """
    id = _two_layers(kit)
    directories = {kit.driver.get(id, "") for _ in range(20)}
    expect("how many directories twenty Gets give", len(directories), 1)
    (directory,) = directories
    for left in range(19, 0, -1):
        kit.driver.put(id)
        found = kit.names(directory)
        expect(f"content of the directory with {left} Gets left", found, ["above", "below"])
    kit.driver.put(id)
    expect("content of the layer after all Puts", sorted(kit.record(id)), [b"above", b"below"])


@GROUP.case()
def put_without_a_get_does_no_harm(kit: Kit) -> None:
    """A Put without a Get, accepted or rejected, does not affect the next Get.

    Gets and Puts need not come in pairs: a daemon that was restarted may send a Put for a Get of
    its predecessor. A count below zero would keep the next Get from mounting.
    """
    id = _two_layers(kit)
    with kit.shown(id):
        pass
    with either_way():
        kit.driver.put(id)
    outer = kit.driver.get(id, "")
    kit.driver.get(id, "")
    kit.driver.put(id)
    expect("content of the directory after one Put of two", kit.names(outer), ["above", "below"])
    kit.driver.put(id)


@GROUP.case()
def last_put_unmounts(kit: Kit) -> None:
    """After a layer's last Put, nothing of it is mounted below the home.

    A mount that remains after the last Put keeps files open and the home's filesystem busy, one
    more with each container.
    """
    before = mounts_below(kit.subject.home)
    id = _two_layers(kit)
    kit.driver.get(id, "")
    kit.driver.get(id, "")
    kit.driver.put(id)
    kit.driver.put(id)
    expect("mounts below the home", mounts_below(kit.subject.home), before)


@GROUP.case()
def remove_unmounts(kit: Kit) -> None:
    """Remove of a layer after several Gets leaves nothing of it mounted.

    A daemon removes a layer whose Puts were lost. The directory of a mount that remains cannot be
    deleted.
    """
    before = mounts_below(kit.subject.home)
    id = _two_layers(kit)
    kit.driver.get(id, "")
    kit.driver.get(id, "")
    kit.driver.remove(id)
    expect("mounts below the home", mounts_below(kit.subject.home), before)


@GROUP.case(see=references.CLEANUP)
def cleanup_unmounts(kit: Kit) -> None:
    """Cleanup leaves nothing mounted, whatever the number of Gets, and keeps all layers.

    A daemon sends Cleanup when it ends and no container runs any more. After that nobody can
    unmount what remains but an administrator.
    """
    id = _two_layers(kit)
    kit.driver.get(id, "")
    kit.driver.get(id, "")
    kit.driver.cleanup()
    expect("mounts below the home", mounts_below(kit.subject.home), [])
    kit.driver.init(kit.subject.home, [], [], [])
    expect("content of the layer then", sorted(kit.record(id)), [b"above", b"below"])


@GROUP.case(Need.SOCKET, see=references.LIVE_CONTAINERS)
def live_container_outlives_its_daemon(kit: Kit) -> None:
    """A layer that a former daemon mounted stays mounted after the next daemon's Init, Get and Put.

    After its restart a daemon sends Get and Put for the layer of each container that still runs. A
    reference count that starts at 0 unmounts them.
    """
    id = _two_layers(kit)
    directory = kit.driver.get(id, "")
    with kit.subject.another_daemon() as daemon:
        for call in (
            wire.call("Init", Home=kit.subject.home),
            wire.call("Get", ID=id),
            wire.call("Put", ID=id),
        ):
            expect("the error of the next daemon's call", daemon.ask(call).rejection, "")
        with kit.opened(directory) as root:
            found = sorted(os.listdir(root))
            expect("content of the container's directory", found, ["above", "below"])
            (root / "written").write_text("z")
        daemon.ask(wire.call("Put", ID=id))
    shown = sorted(kit.record(id))
    expect("content of the layer in the end", shown, [b"above", b"below", b"written"])


@GROUP.case(Need.SOCKET, see=references.LIVE_CONTAINERS)
def layer_of_a_former_daemon_can_be_removed(kit: Kit) -> None:
    """A daemon can remove a layer that a former daemon mounted and did not Put.

    A daemon that is killed sends no Put. A count that nobody reduces any more would keep the layer
    forever.
    """
    before = mounts_below(kit.subject.home)
    id = _two_layers(kit)
    kit.driver.get(id, "")
    kit.driver.get(id, "")
    with kit.subject.another_daemon() as daemon:
        for call in (wire.call("Init", Home=kit.subject.home), wire.call("Remove", ID=id)):
            expect("the error of the next daemon's call", daemon.ask(call).rejection, "")
    expect("Exists after that", kit.driver.exists(id), False)
    expect("mounts below the home", mounts_below(kit.subject.home), before)
