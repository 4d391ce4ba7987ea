"""The plugin is killed and restarted while its daemon and containers run."""

from __future__ import annotations

import os

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect, expect_tree
from graphdriver.conformance.kit.tree import build
from graphdriver.conformance.plugin import tars, wire
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("restart", "the plugin is killed and restarted under its daemon")


def _again(kit: Kit) -> None:
    kit.subject.kill()
    kit.subject.start()
    kit.driver.init(kit.subject.home, [], [], [])


@GROUP.case(Need.PROCESS)
def layers_outlive_the_plugin(kit: Kit) -> None:
    """After a restart and an Init, every layer is as it was, and can have children.

    Plugins are upgraded, and crash, while daemons run. Layers that a plugin knows only from its
    memory are then lost, and images and containers with them.
    """
    base = kit.layer(fill=lambda root: build(str(root)))
    above = kit.layer(base, lambda root: (root / "above").write_text("x"))
    before = kit.record(above)
    _again(kit)
    expect("Exists of both", [kit.driver.exists(id) for id in (base, above)], [True, True])
    expect_tree("content of the layer after a restart", kit.record(above), before)
    child = kit.layer(above)
    expect_tree("content of a child created then", kit.record(child), before)
    changed = [change.path for change in kit.driver.changes(above, base)]
    expect("Changes after a restart", changed, ["/above"])


@GROUP.case(Need.PROCESS)
def calls_without_an_init(kit: Kit) -> None:
    """After a restart without Init, a plugin serves calls or rejects them; it denies no layer.

    A daemon sends Init only when it starts. To a plugin that was restarted later it sends other
    calls at once, and the response 'no such layer' makes it drop images that exist.
    """
    id = kit.layer(fill=lambda root: (root / "kept").write_text("x"))
    kit.subject.kill()
    kit.subject.start()
    try:
        with kit.subject.wire() as daemon:
            exists = daemon.ask(wire.call("Exists", ID=id))
            got = daemon.ask(wire.call("Get", ID=id))
        if not exists.rejection:
            expect("Exists without an Init", exists.members.get("Exists"), True)
        if not got.rejection:
            found = kit.names(got.members.get("Dir"))
            expect("content of Dir without an Init", found, ["kept"])
    finally:
        kit.driver.init(kit.subject.home, [], [], [])
    if not got.rejection:
        kit.driver.put(id)
    expect("content of the layer after an Init", list(kit.record(id)), [b"kept"])


@GROUP.case(Need.PROCESS)
def home_is_remembered(kit: Kit) -> None:
    """A plugin that is restarted under its daemon serves it without another Init.

    A plugin that forgets its home at a restart makes every call fail until the daemon is restarted
    as well.
    """
    id = kit.layer(fill=lambda root: (root / "kept").write_text("x"))
    kit.subject.kill()
    kit.subject.start()
    try:
        expect("Exists without an Init", kit.driver.exists(id), True)
        expect("content of the layer without an Init", list(kit.record(id)), [b"kept"])
        made = kit.layer(id)
        expect("content of a child created then", list(kit.record(made)), [b"kept"])
    finally:
        kit.driver.init(kit.subject.home, [], [], [])


@GROUP.case(Need.PROCESS)
def mount_outlives_a_kill(kit: Kit) -> None:
    """A mounted layer can be read and written while the plugin is gone, and after its restart.

    A container that runs reads and writes its layer without the plugin. If the mount depends on the
    plugin's process, a crash of the plugin stops every container.
    """
    base = kit.layer(fill=lambda root: (root / "below").write_text("below"))
    id = kit.layer(base)
    directory = kit.driver.get(id, "")
    with kit.opened(directory) as root, open(root / "open", "w+", encoding="utf-8") as file:
        kit.subject.kill()
        try:
            with kit.opened(directory) as again:
                expect("a file of the layer below", (again / "below").read_text(), "below")
                file.write("written while the plugin was gone")
                file.flush()
                (again / "new").write_text("new")
        finally:
            kit.subject.start()
            kit.driver.init(kit.subject.home, [], [], [])
        found = kit.names(directory)
        expect(
            "content of the directory after the plugin's return", found, ["below", "new", "open"]
        )
    kit.driver.get(id, "")
    kit.driver.put(id)
    found = kit.names(directory)
    expect("content of the directory after another Get and Put", found, ["below", "new", "open"])
    kit.driver.put(id)
    with kit.shown(id) as root:
        text = (root / "open").read_text()
    expect("the file that was open", text, "written while the plugin was gone")


@GROUP.case(Need.PROCESS)
def mount_outlives_sigterm(kit: Kit) -> None:
    """A mounted layer stays mounted when SIGTERM ends the plugin, as in an upgrade.

    An upgrade of a plugin ends the old process with SIGTERM. That it unmounts the filesystems of
    running containers is the most common complaint about such plugins.
    """
    base = kit.layer(fill=lambda root: (root / "below").write_text("below"))
    id = kit.layer(base)
    directory = kit.driver.get(id, "")
    try:
        kit.subject.stop(kit.patience)
        with kit.opened(directory) as root:
            expect(
                "content of the directory when the plugin has ended", os.listdir(root), ["below"]
            )
            (root / "new").write_text("new")
    finally:
        kit.subject.start()
        kit.driver.init(kit.subject.home, [], [], [])
    found = kit.names(directory)
    expect("content of the directory after the plugin's return", found, ["below", "new"])
    kit.driver.put(id)
    expect("content of the layer then", sorted(kit.record(id)), [b"below", b"new"])


@GROUP.case(Need.PROCESS, required=False)
def ends_on_sigterm(kit: Kit) -> None:
    """SIGTERM ends the plugin within 10 s, also while a daemon keeps connections to it.

    A service manager, or a daemon that disables a managed plugin, sends SIGTERM and after a while
    SIGKILL. Daemons keep their connections open, so a plugin that waits for them to close never
    ends.
    """
    with kit.subject.wire() as daemon:
        daemon.ask(wire.call("Exists", ID=kit.id()))
        try:
            ended = kit.subject.stop(kit.patience)
        finally:
            kit.subject.start()
            kit.driver.init(kit.subject.home, [], [], [])
    expect(f"whether the plugin ended within {kit.patience:.0f} s of SIGTERM", ended, True)


@GROUP.case(Need.PROCESS)
def killed_in_a_transfer(kit: Kit) -> None:
    """A layer whose transfer a kill interrupted can be removed, and loaded again.

    The daemon notices the broken connection, sends Remove and loads the layer again. What the kill
    left behind must not prevent either.
    """
    id = kit.id()
    tar = tars.tar(*(tars.file(b"%d" % number, bytes(100_000)) for number in range(20)))
    kit.driver.create(id, "", "", {})
    with kit.subject.wire() as daemon:
        daemon.send(wire.apply_head(id), *wire.chunks(tar[:1_000_000]))
        kit.subject.kill()
    kit.subject.start()
    kit.driver.init(kit.subject.home, [], [], [])
    kit.driver.remove(id)
    expect("Exists after Remove", kit.driver.exists(id), False)
    kit.driver.create(id, "", "", {})
    with kit.subject.wire() as daemon:
        expect("the error of ApplyDiff", daemon.ask(wire.apply(id, tar)).rejection, "")
    expect("how many files the layer shows", len(kit.record(id)), 20)


@GROUP.case(Need.PROCESS, required=False)
def half_layer_is_unusable(kit: Kit) -> None:
    """A layer whose transfer a kill interrupted is rejected by Get until it is removed.

    The daemon may have been killed as well, for example by a power cut. The next daemon would run a
    container on half an image.
    """
    id = kit.id()
    kit.driver.create(id, "", "", {})
    with kit.subject.wire() as daemon:
        half = tars.tar(*(tars.file(b"%d" % number, bytes(100_000)) for number in range(20)))
        daemon.send(wire.apply_head(id), *wire.chunks(half[:1_000_000]))
        kit.subject.kill()
    kit.subject.start()
    kit.driver.init(kit.subject.home, [], [], [])
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.call("Get", ID=id))
    if not answer.rejection:
        raise Mismatch("Get of a layer whose transfer a kill interrupted", "success", "an error")


@GROUP.case(Need.PROCESS)
def daemon_finds_the_plugin_again(kit: Kit) -> None:
    """A plugin that was killed listens at its socket again, where its old socket still is.

    A plugin that was killed leaves its socket. If the next one cannot listen there because the file
    exists, it does not come back without an administrator.
    """
    kit.subject.kill()
    kit.subject.start()
    kit.driver.init(kit.subject.home, [], [], [])
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.head("/Plugin.Activate", "Content-Length: 0"))
    expect("the status of Activate after a restart", answer.status, 200)
