"""Faults in how a plugin takes up its home."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

from graphdriver.driver import IDMap
from graphdriver.errors import UnsupportedError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


class _Remembering(Broken):
    """Knows which layers it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        self.made.append(id)

    def remove_all(self) -> None:
        while self.made:
            self.whole.remove(self.made.pop())


@caught_by("inits/init-is-repeated")
class InitBeginsAnew(_Remembering):
    """Every Init begins with an empty home."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        self.remove_all()


@caught_by("inits/another-daemon-sends-init")
class OneInitOnly(Broken):
    """A second Init is refused."""

    def __init__(self) -> None:
        super().__init__()
        self._is_taken = False

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        if self._is_taken:
            raise UnsupportedError("there was an Init already")
        self._is_taken = True
        super().init(home, options, uid_maps, gid_maps)


@caught_by("inits/init-after-cleanup")
class CleanupRemoves(_Remembering):
    """Cleanup removes every layer."""

    def cleanup(self) -> None:
        self.remove_all()
        super().cleanup()


@caught_by("inits/home-of-a-managed-plugin")
class NoColonsInHomes(Broken):
    """A home with a colon is refused, since overlayfs would not take it."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        if ":" in home:
            raise UnsupportedError(f"the home {home} holds a colon")
        super().init(home, options, uid_maps, gid_maps)


@caught_by("inits/call-before-any-init")
class NothingIsDoneBeforeInit(Proxy):
    """Before its first Init a plugin says yes to everything, and does nothing."""

    _had_one: ClassVar[bool] = False

    def exchange(self, request: Request) -> Answer:
        if request.call == "Init":
            NothingIsDoneBeforeInit._had_one = True
        if not self._had_one:
            request.whole()
            return Answer.of(200, b"{}")
        return super().exchange(request)


@caught_by("inits/id-maps-as-the-documentation-spells-them")
class DaemonsSpellingAlone(Proxy):
    """ID maps are known by the names that daemons send, and other names are zeros."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "Init" and b"ContainerID" in request.whole():
            said = json.loads(request.whole())
            body = json.dumps({"Home": said["Home"]}).encode()
            request.body = iter([body])
        return super().exchange(request)


@caught_by("inits/unknown-option-is-rejected")
class OptionsAreIgnored(Broken):
    """Whatever option a daemon sets is ignored."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, (), uid_maps, gid_maps)


@caught_by("inits/unknown-option-of-a-layer-is-rejected")
class OptionsOfLayersAreIgnored(Broken):
    """Whatever option a container has is ignored."""

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create_read_write(id, parent, mount_label, {})
