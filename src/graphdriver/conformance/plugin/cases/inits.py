"""Homes, and the Init that a daemon sends at each start."""

from __future__ import annotations

import os

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import NotOffered, either_way, expect, rejected
from graphdriver.conformance.plugin import references, wire
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.driver import IDMap

GROUP: Group[Kit] = Group("inits", "homes, and what a daemon sends when it starts")


@GROUP.case(see=references.DAEMON_RESTART)
def init_is_repeated(kit: Kit) -> None:
    """A second Init of the same home is accepted, and finds the layers of the first.

    Each time a daemon starts it sends Init again, with the same home and all its layers in it.
    """
    id = kit.layer(fill=lambda root: (root / "kept").write_text("x"))
    kit.driver.init(kit.subject.home, [], [], [])
    expect("Exists after another Init", kit.driver.exists(id), True)
    expect("content of the layer", list(kit.record(id)), [b"kept"])


@GROUP.case(Need.SOCKET, see=references.DAEMON_RESTART)
def another_daemon_sends_init(kit: Kit) -> None:
    """Init of the same home is accepted from another process, and finds the layers.

    A daemon that starts again is another process. A plugin that serves only the process of its
    first Init works until the daemon's first restart.
    """
    id = kit.layer(fill=lambda root: (root / "kept").write_text("x"))
    with kit.subject.another_daemon() as daemon:
        answer = daemon.ask(wire.call("Init", Home=kit.subject.home, Opts=None, UIDMaps=None))
        expect("the error of another daemon's Init", answer.rejection, "")
        found = daemon.ask(wire.call("Exists", ID=id)).members
        expect("Exists, asked by that daemon", found, {"Exists": True})
    expect("content of the layer", list(kit.record(id)), [b"kept"])


@GROUP.case(see=references.CLEANUP)
def init_after_cleanup(kit: Kit) -> None:
    """Init of the same home is accepted after Cleanup, and finds the layers.

    A daemon that ends sends Cleanup, and the next daemon Init, while the plugin keeps running.
    """
    id = kit.layer(fill=lambda root: (root / "kept").write_text("x"))
    kit.driver.cleanup()
    kit.driver.init(kit.subject.home, [], [], [])
    expect("content of a layer after Cleanup and Init", list(kit.record(id)), [b"kept"])


@GROUP.case(Need.HOMES)
def home_of_a_managed_plugin(kit: Kit) -> None:
    """A home whose parent does not exist, with a colon in its name, is created and used.

    A managed plugin with a propagatedMount gets a home such as /mnt/org/name:tag. The parent of
    that directory does not exist, and overlayfs separates lower directories by colons.
    """
    home = os.path.join(kit.scratch, "mnt", "org", "name:tag")
    with kit.subject.another(home=home) as driver:
        below = kit.layer(fill=lambda root: (root / "one").write_text("1"), driver=driver)
        above = kit.layer(below, lambda root: (root / "two").write_text("2"), driver)
        expect("content of a layer there", sorted(kit.record(above, driver)), [b"one", b"two"])
        for id in (above, below):
            driver.remove(id)


@GROUP.case(Need.PROCESS)
def call_before_any_init(kit: Kit) -> None:
    """Before any Init, Create is rejected, or it is carried out; then Init is accepted.

    A daemon that runs already sends its calls to a plugin that was just started. A plugin without a
    home must say so, and not store layers anywhere else.
    """
    id = kit.id()
    home = kit.scratch / "home"
    with kit.subject.unused() as daemon:
        made = not daemon.ask(wire.call("Create", ID=id)).rejection
        if made:
            found = daemon.ask(wire.call("Exists", ID=id)).members
            expect("Exists, after a Create without an Init", found, {"Exists": True})
        got = not daemon.ask(wire.call("Get", ID=id)).rejection
        expect("whether Get without an Init is a success", got, made)
        if got:
            daemon.ask(wire.call("Remove", ID=id))
        answer = daemon.ask(wire.call("Init", Home=str(home)))
        expect("the error of the Init after it", answer.rejection, "")
        daemon.ask(wire.call("Cleanup"))


@GROUP.case(Need.PROCESS, see=references.ID_MAP_SPELLINGS, required=False)
def id_maps_as_the_documentation_spells_them(kit: Kit) -> None:
    """ID maps are also accepted with the members ContainerID, HostID and Size.

    The documentation writes ContainerID, HostID and Size; daemons send container_id, host_id and
    size.
    """
    with either_way() as rejection, kit.subject.another(maps=[IDMap(0, 100_000, 65_536)]):
        pass
    if rejection.was:
        raise NotOffered(f"the plugin refuses ID maps: {rejection.text}")
    id = kit.id()
    maps = [{"ContainerID": 0, "HostID": 100_000, "Size": 65_536}]
    home = str(kit.scratch / "home")
    with kit.subject.homes.admitted(home), kit.subject.unused() as daemon:
        for call in (
            wire.call("Init", Home=home, UIDMaps=maps, GIDMaps=maps),
            wire.call("Create", ID=id),
        ):
            expect("the error of a call", daemon.ask(call).rejection, "")
        named = daemon.ask(wire.call("Get", ID=id)).members.get("Dir")
        with kit.opened(named, is_read=True) as root:
            found = os.stat(root)
        for call in (wire.call("Remove", ID=id), wire.call("Cleanup")):
            daemon.ask(call)
    expect("owner of a new layer's directory", (found.st_uid, found.st_gid), (100_000, 100_000))


@GROUP.case(Need.HOMES, required=False)
def unknown_option_is_rejected(kit: Kit) -> None:
    """Init with an option that the plugin does not know is rejected.

    A user who mistypes a --storage-opt of the daemon believes that it is set. Docker's own drivers
    reject unknown options.
    """
    with (
        rejected("Init with an option that the plugin does not know", "no.such.option"),
        kit.subject.another(options=["no.such.option=1"]),
    ):
        pass


@GROUP.case(required=False)
def unknown_option_of_a_layer_is_rejected(kit: Kit) -> None:
    """CreateReadWrite with a --storage-opt that the plugin does not know is rejected.

    A user who limits a container by docker run --storage-opt size=1G relies on the limit. A plugin
    that ignores the option lets the container fill the disk.
    """
    id = kit.id()
    with rejected("CreateReadWrite with an option that the plugin does not know"):
        kit.driver.create_read_write(id, "", "", {"no.such.option": "1"})
    expect("Exists after that", kit.driver.exists(id), False)
