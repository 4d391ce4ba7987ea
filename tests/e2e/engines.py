"""Daemons ready to use: on our plugin, or on one of Docker's own drivers."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.filesystems import loop
from tests.support.ground import ROOM_NEEDED, Docker, new_folder
from tests.support.plugin_process import Plugin

DRIVERS = ("vfs", "overlay2", "erofs", "btrfs", "fuse-overlayfs")
"""The drivers that daemons are tried on: every test that takes a daemon of ours, on each of them."""

OVERLAYS = ("overlay2", "erofs", "fuse-overlayfs")
"""Drivers that mount each layer as an overlay on the layers below."""

PEERS = {driver: driver for driver in DRIVERS} | {"erofs": "overlay2"}
"""Docker's own driver that is most like each of them."""

FILESYSTEMS = {"btrfs": "btrfs", "erofs": "ext4"}
"""The filesystem of a daemon, where it is not the base: images are read from files on a disk."""


@dataclass
class Engines:
    """Starts daemons, and knows every plugin that was started for one.

    Args:
        docker: the programs.
        logs: a folder for the logs, which outlive what they tell of.
        base: where the daemons' folders are made, see `new_folder`. Those of some drivers are on a
            filesystem of their own (``filesystems``), in memory, which is made when the first one
            needs it.
        filesystems: which drivers, and which filesystem.
    """

    docker: Docker
    logs: Path
    base: str = ""
    filesystems: Mapping[str, str] = field(default_factory=lambda: FILESYSTEMS)
    plugins: list[Plugin] = field(default_factory=list)
    _count: int = 0
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _made: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Unmount what was mounted for daemons, which have all ended."""
        self._held.close()

    @contextlib.contextmanager
    def on_plugin(
        self,
        driver: str,
        *,
        name: str = "",
        command: Sequence[str] = (),
        options: Sequence[str] = (),
        is_passed: bool = False,
        config: Mapping[str, object] | None = None,
    ) -> Iterator[tuple[Daemon, Plugin]]:
        """Start a plugin and a daemon on it; at the end both stop in good order."""
        with (
            self.plugin(
                driver, name=name, command=command, options=options, is_passed=is_passed
            ) as plugin,
            self.on_driver(plugin.name, config) as daemon,
        ):
            yield daemon, plugin

    @contextlib.contextmanager
    def plugin(
        self,
        driver: str,
        *,
        name: str = "",
        command: Sequence[str] = (),
        options: Sequence[str] = (),
        is_passed: bool = False,
    ) -> Iterator[Plugin]:
        """Start a plugin alone."""
        with contextlib.closing(
            self.new_plugin(
                driver, name=name, command=command, options=options, is_passed=is_passed
            )
        ) as plugin:
            plugin.start()
            yield plugin

    def new_plugin(
        self,
        driver: str,
        *,
        name: str = "",
        command: Sequence[str] = (),
        options: Sequence[str] = (),
        is_passed: bool = False,
    ) -> Plugin:
        """Make a plugin that is yet to be started; who asks for it closes it."""
        log = self._log("plugin")
        plugin = Plugin(
            log, driver, name=name, command=command, options=options, is_passed=is_passed
        )
        self.plugins.append(plugin)
        return plugin

    @contextlib.contextmanager
    def on_driver(
        self,
        storage_driver: str,
        config: Mapping[str, object] | None = None,
        *,
        behind: str = "",
    ) -> Iterator[Daemon]:
        """Start a daemon on a storage driver that is there already.

        ``behind`` is the driver whose filesystem the daemon gets, where the name does not tell it: that
        of a tap, of several plugins that take turns, of a driver that is compared.
        """
        with self.daemon(storage_driver, config, behind=behind) as daemon:
            daemon.start()
            yield daemon

    @contextlib.contextmanager
    def daemon(
        self,
        storage_driver: str,
        config: Mapping[str, object] | None = None,
        *,
        behind: str = "",
    ) -> Iterator[Daemon]:
        """Make a daemon that is yet to be started; see `on_driver`."""
        folder, log = new_folder(self._base_for(behind or storage_driver)), self._log("dockerd")
        with contextlib.closing(Daemon(self.docker, folder, log, storage_driver, config)) as daemon:
            yield daemon

    def _base_for(self, storage_driver: str) -> str:
        served = {plugin.name: plugin.driver for plugin in self.plugins}
        kind = self.filesystems.get(served.get(storage_driver, storage_driver))
        if not kind:
            return self.base
        if kind not in self._made:
            above = Path(tempfile.mkdtemp(prefix="gdb", dir="/dev/shm"))
            above.chmod(0o711)
            self._held.callback(shutil.rmtree, above)
            self._made[kind] = str(self._held.enter_context(loop(kind, above, 2 * ROOM_NEEDED)))
        return self._made[kind]

    def _log(self, of: str) -> Path:
        self._count += 1
        return self.logs / f"{of}-{self._count}.log"
