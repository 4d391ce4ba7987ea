"""A driver and the home that it serves, the same for every engine.

`ServedHome` keeps the rules that are the same for every driver and every engine; `graphdriver.docker`
and `graphdriver.containerd` translate a protocol into its calls.

- A home is claimed for this process, this engine and this driver before the driver sees it
  (`graphdriver.serving.home`).
- Calls run in parallel, Init alone (`graphdriver.serving.init_lock`). For each layer there is one call
  at a time, and no call that reads it as a parent while it is removed or filled (`graphdriver.locks`).
- A layer is filled once, and only by the process that created it.
- Each call is logged (`graphdriver.serving.call_log`).

A crash or a kill at any point leaves a layer absent, marked, or complete on disk. `ServedHome.filling`
keeps the order of steps for that:

1. mark the layer in ``HOME/.graphdriver/applying/``;
2. open a descriptor for syncfs, before the first write;
3. the driver writes;
4. syncfs;
5. remove the mark, and fsync its directory;
6. the call is answered.

`Home` finds the marks at its start. No call reads or fills a layer that has one, and none creates a
layer of its ID or on it; Remove works. A second ApplyDiff is refused for every layer: after a broken
connection a daemon sends the call again, and its body can be only the tail of the tar.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import graphdriver
from graphdriver import returned
from graphdriver.abilities import (
    CountsGets,
    CountsUsage,
    FindsLeftovers,
    KeepsMounts,
    NamesMounts,
    TakesParentLater,
    WorksInBackground,
    ability,
)
from graphdriver.driver import IDMap, ProtoDriver, ReadStream
from graphdriver.errors import (
    InUseError,
    LayerExistsError,
    LayerUnfinishedError,
    NotReadyError,
)
from graphdriver.homes import CountsHeld, ReadsHome, StoredLayer
from graphdriver.linux.mountinfo import mounts_in
from graphdriver.locks import LayerLocks
from graphdriver.serving.call_log import Call, CallLog, current_call
from graphdriver.serving.driver_status import DriverStatus
from graphdriver.serving.home import Home
from graphdriver.serving.init_lock import InitLock
from graphdriver.serving.layer_records import LayerRecords
from graphdriver.serving.options import split_framework_options
from graphdriver.serving.server_record import ServerRecord, remove_server, write_server
from graphdriver.serving.times import rfc3339
from graphdriver.serving.tracing import tracing_of
from graphdriver.steps import step

_PIECE: Final = 256 << 10
"""How much of a layer's tar is read at a time, in bytes."""

_log = logging.getLogger(__name__)


class ServedHome:
    """A driver and the home that it serves; a ``with`` block on it is one call.

    Args:
        driver: keeps the layers.
        engine: ``docker`` or ``containerd``.
        options: options (``key=value``) that come before those of `claim`.

    Attributes:
        engine: as given.
        driver_name: the driver's name in the record of a home.
        counts_gets: the driver, if it has that ability; likewise the next five.
        locks: one call at a time for each layer.
        path: the home that was claimed last; ``""`` before the first.
        driver_options: the options that the driver has got.
        driver_status: the pairs of the driver's status, for questions.
        layers: what is known of each layer.
        calls: the log of calls.
        syncs: whether a layer is on disk before a call that fills it is answered.
        created: the layers that were created since the home was claimed, and not filled yet: only
            these can be filled.
    """

    def __init__(self, driver: ProtoDriver, engine: str, options: Sequence[str] = ()) -> None:
        self.driver = driver
        self.driver_name = driver.driver_name or type(driver).__name__
        self.counts_gets = ability(driver, CountsGets)
        self.finds_leftovers = ability(driver, FindsLeftovers)
        self.names_mounts = ability(driver, NamesMounts)
        self.keeps_mounts = ability(driver, KeepsMounts)
        self.counts_usage = ability(driver, CountsUsage)
        self.takes_parent_later = ability(driver, TakesParentLater)
        self.locks = LayerLocks()
        self.calls = CallLog(tracing_of(engine, self.driver_name))
        self.syncs = True
        self.created: set[str] = set()
        self.engine = engine
        self.path = ""
        self.driver_options: Sequence[str] = ()
        self.driver_status = DriverStatus(self._ask_status)
        self.layers = LayerRecords()
        self._options = tuple(options)
        self._addresses: tuple[str, ...] = ()
        self._init_lock = InitLock()
        self._home: Home | None = None
        self._is_initialised = False
        self._release_when_idle = False

    # --- the home ---------------------------------------------------------------------------------

    @property
    def home(self) -> Home:
        """The claimed home."""
        assert self._home is not None
        return self._home

    @property
    def initialised_home(self) -> Home | None:
        """The home, if the driver is initialised in it; for threads that make no call.

        It may be released at any time, also between two uses of the returned object.
        """
        home = self._home  # read once: another thread may release it
        return home if self._is_initialised else None

    def claim(
        self,
        path: str,
        options: Sequence[str] = (),
        gid_maps: Sequence[IDMap] = (),
        *,
        timeout: float = 0,
        make: bool = True,
    ) -> bool:
        """Claim a home for this process, engine and driver; no call may run meanwhile.

        Another home that was claimed is released. After an error no home is claimed, except that
        wrong options change nothing.

        Args:
            path: an absolute path.
            options: the driver's and the framework's, ``key=value`` each.
            gid_maps: the home belongs to the group that root has under these.
            timeout: how long to wait for another process to release the home, in seconds.
            make: whether a home that does not exist is made.

        Returns:
            Whether this engine and driver claimed it before.

        Raises:
            InUseError: another process serves it.
            NotReadyError: it does not exist, and ``make`` is false.
            UnsupportedError: it belongs to another engine, driver or version, or holds other files;
                an option of the framework has a wrong value.
            GraphDriverError: it cannot be made or read.
        """
        split = split_framework_options((*self._options, *options))
        path = _shortest(path)
        self._release_unless_at(path)
        if self._home is None:
            if not make and not os.path.isdir(path):
                raise NotReadyError(f"{path} does not exist any more")
            self._home = Home(path, tuple(gid_maps), timeout, adopt=split.adopt)
            self.created.clear()
            self.path = path
        try:
            is_known = self._home.claim(self.engine, self.driver_name, self.driver.home_format)
        except BaseException:
            self.release()
            raise
        self.driver_options, self.syncs = split.driver, split.syncs
        return is_known

    def init_driver(self, uid_maps: Sequence[IDMap] = (), gid_maps: Sequence[IDMap] = ()) -> None:
        """Initialise the driver in the claimed home; after an error no home is claimed.

        Raises:
            UnsupportedError: the driver does not know an option, or cannot serve this home.
        """
        home = self.home
        try:
            self.driver.init(home.path, self.driver_options, uid_maps, gid_maps)
            home.unmark_all_but(self._exists)
        except BaseException:
            # A driver serves one home; after an init that failed it may serve none.
            self.release()
            raise
        self._is_initialised = True
        self._release_when_idle = False
        layers = LayerRecords(home.path)
        layers.open(self.layers, self._exists, self._stored_layers)
        self.layers = layers
        self._write_server()

    def _exists(self, id: str) -> bool:
        return returned.truth(self.driver.exists(id))

    def _stored_layers(self) -> Iterable[StoredLayer]:
        reads_home = ability(self.driver, ReadsHome)
        return reads_home.stored_layers(self.home.path) if reads_home else ()

    def is_current(self) -> bool:
        """Tell whether a home is claimed and its path still leads to it."""
        home = self._home  # a question may be asked while the home is released
        return home is not None and home.is_current()

    def unfinished(self) -> list[str]:
        """Return the layers that are marked as unfinished; none if no home is claimed."""
        home = self._home
        return home.unfinished() if home else []

    def mounts(self) -> dict[str, int]:
        """Count the mounts in the home by the first name below it; none without a home."""
        with contextlib.suppress(OSError):  # no /proc
            return mounts_in(self.path) if self.path else {}
        return {}

    def references(self) -> dict[str, int]:
        """Return how many gets or snapshots use each layer that is in use.

        A driver that counts gets on disk also knows those from before a restart. Waits for no call.
        """
        found = {one.id: one.references for one in self.layers.all() if one.references}
        counts = ability(self.driver, CountsHeld)
        if counts and self._home:
            with contextlib.suppress(OSError):
                for id, count in counts.held_layers(self.path).items():
                    found[id] = max(count, found.get(id, 0))
        return found

    def _ask_status(self) -> Sequence[tuple[str, str]] | None:
        """Return the driver's status, as a call; None if no home is served."""
        if not self.begin_call():
            return None
        try:
            return returned.pairs(self.driver.status())
        finally:
            self.end_call()

    def _release_unless_at(self, path: str) -> None:
        """Release a home at another path, and a home that its path no longer leads to."""
        home = self._home
        if home is None or (home.path == path and home.is_current()):
            return
        if home.path == path:
            _log.warning("%s", _moved(path))
        self.release()

    def listens_at(self, addresses: Sequence[str]) -> None:
        """Record where this process answers, for programs that look at the home."""
        self._addresses = tuple(addresses)
        if self._is_initialised:
            self._write_server()

    def _write_server(self) -> None:
        if self._addresses:
            started = rfc3339(self.calls.figures.started)
            about = (self.engine, self.driver_name, graphdriver.__version__, started)
            write_server(self.home.path, ServerRecord(os.getpid(), self._addresses, *about))

    def release(self) -> None:
        """Unlock the home. Layers stay as they are, and so do mounts that are in use."""
        self._is_initialised = False
        if self._home:
            self._end_background_work()
            if self._home.is_current():  # otherwise it is the record of what is there now
                remove_server(self._home.path)
            self._home.close()
        self._home = None

    def _end_background_work(self) -> None:
        """End what the driver does besides its calls; log failures."""
        driver = ability(self.driver, WorksInBackground)
        if driver is None:
            return
        try:
            driver.end_background_work()
        except (Exception, SystemExit):
            _log.exception("the driver's work in the background does not end")

    def release_when_idle(self) -> None:
        """Unlock the home as soon as no call runs, so that its filesystem can be unmounted."""
        self._release_when_idle = True

    def close(self) -> None:
        """Stop the log and unlock the home, once no call runs any more."""
        self.calls.close()
        self.release()

    # --- calls ------------------------------------------------------------------------------------

    def begin_call(self) -> bool:
        """Begin a call: no Init runs until `end_call`.

        Returns:
            Whether a home is served; if not, the call has not begun.
        """
        self._init_lock.begin_call()
        if self.is_current():
            return True
        self._init_lock.end_call()
        return False

    def end_call(self) -> None:
        """End a call that has begun."""
        if self._init_lock.end_call() and self._release_when_idle:
            # If another call has begun meanwhile, its end releases the home.
            with contextlib.suppress(InUseError), self.no_calls(timeout=0):
                if self._release_when_idle:
                    self.release()

    def __enter__(self) -> None:
        """Begin a call.

        Raises:
            NotReadyError: no home is served: it was deleted, or something was mounted there.
        """
        if not self.begin_call():
            raise NotReadyError(
                _moved(self._home.path) if self._home else "no home is served",
                hint="mount what was there, or restart the process to serve what is there now",
            )

    def __exit__(self, *exc: object) -> None:
        self.end_call()

    def no_calls(self, timeout: float | None = None) -> contextlib.AbstractContextManager[None]:
        """Keep all calls out for the length of a ``with`` block; see `InitLock.exclusive`."""
        return self._init_lock.exclusive(timeout)

    # --- layers -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def creating(self, id: str, parent: str) -> Iterator[None]:
        """Record a layer that a ``with`` block creates, so that it can be filled.

        Raises:
            LayerExistsError: an unfinished layer has this ID.
            LayerUnfinishedError: the parent is unfinished.
        """
        if self.home.is_unfinished(id):
            raise LayerExistsError(
                "the layer exists, but its transfer did not finish", hint="remove it first"
            )
        self.expect_finished(parent)
        yield
        self.created.add(id)
        self.layers.created(id, parent)

    def remove(self, id: str) -> None:
        """Remove a layer, finished or not; see `ProtoDriver.remove`."""
        self.driver.remove(id)
        self.created.discard(id)
        self.layers.removed(id)
        # The mark after the layer: a kill between the two leaves a mark without a layer, which the next
        # start removes, and never half a layer without a mark.
        self.home.unmark(id)

    def expect_finished(self, *ids: str) -> None:
        """Check that layers are not marked as unfinished.

        Raises:
            LayerUnfinishedError: one is.
        """
        for id in ids:
            if self.home.is_unfinished(id):
                raise LayerUnfinishedError(
                    f"layer {id} is incomplete: its transfer did not finish",
                    hint="remove it and load it again",
                )

    def expect_fillable(self, id: str, parent: str) -> None:
        """Check that a layer can be filled: it was just created, and its parent is finished.

        Raises:
            LayerUnfinishedError: it was not, or the parent is not.
        """
        if self.home.is_unfinished(id):
            raise LayerUnfinishedError(
                "its first transfer broke off", hint="remove it and load again"
            )
        if id not in self.created:
            raise LayerUnfinishedError(
                "only a layer that was just created can be filled, and only once; this one was filled"
                " before, or was not created since the plugin opened the home",
                hint="remove it and load again",
            )
        self.expect_finished(parent)

    @contextlib.contextmanager
    def filling(
        self,
        id: str,
        body: ReadStream,
        first_read: Callable[[], None] = lambda: None,
        link: Callable[[str], bool] | None = None,
    ) -> Iterator[ReadStream]:
        """Keep a layer marked while a ``with`` block fills it, until all of it is on disk.

        If the block raises `InUseError` before it has read anything, the driver refused the call and
        changed nothing, so the layer can still be filled. After any other error it stays marked.

        Args:
            id: a layer that `expect_fillable` has passed.
            body: the layer's tar.
            first_read: called before the first byte is read, and so before the layer can change.
            link: gives the file that is the tar another name; None: the tar is no file
                (`graphdriver.files.file_stream`).

        Yields:
            The tar, for the driver.

        Raises:
            BrokenStreamError: the body broke off after the end of the tar.
            OSError: the layer cannot be written to the disk.
        """
        archive = _Archive(body, first_read, link, current_call())
        # Once only: the body of a second try could be just the tail of the tar.
        self.created.discard(id)
        self.home.mark(id)
        # Before the first write: syncfs(2) reports the write errors since its descriptor was opened.
        filesystem = self.home.open()
        try:
            with step("write"):
                yield archive
                # A driver may stop reading at the tar's end; a body that breaks off after it is broken,
                # too.
                read_to_end(archive)
            self._unmark(id, filesystem)
        except InUseError:
            if not archive.is_read:
                self.home.unmark(id)
                self.created.add(id)
            raise
        finally:
            os.close(filesystem)

    @contextlib.contextmanager
    def settling(self, id: str) -> Iterator[None]:
        """Keep a layer marked while a ``with`` block changes it, until all of it is on disk.

        After an error it stays marked.

        Raises:
            OSError: the layer cannot be written to the disk.
        """
        self.home.mark(id)
        filesystem = self.home.open()
        try:
            yield
            self._unmark(id, filesystem)
        finally:
            os.close(filesystem)

    def _unmark(self, id: str, filesystem: int) -> None:
        """Remove the mark of a layer, once all of it is on disk; see `Home.unmark_synced`."""
        if not self.syncs:
            self.home.unmark(id)
            return
        with step("sync"):
            self.home.unmark_synced(id, filesystem)
        self.calls.figures.last_sync = time.time()

    def sync(self) -> None:
        """Wait until everything written in the home is on disk; do nothing with ``sync=none``.

        Raises:
            OSError: something could not be written.
        """
        if self.syncs:
            with step("sync"):
                self.home.sync()
            self.calls.figures.last_sync = time.time()

    def sweep_leftovers(self) -> None:
        """Unmount and remove the leftovers of a killed daemon; log failures.

        A killed daemon sends no Put for its Gets, and no Remove for layers that it was filling. The
        mount of a layer without a child stays: a container, or a step of a build, may still run on it.
        """
        driver = self.finds_leftovers
        if driver is None:
            return
        try:
            driver.release_leftovers()
        except (Exception, SystemExit):
            _log.exception("mounts that an earlier daemon left cannot be unmounted")
        for id in self.home.unfinished():
            try:
                if driver.is_leftover(id) is True:
                    self.remove(id)
                    _log.info("removed layer %s, which an earlier daemon did not finish", id)
            except (Exception, SystemExit):
                _log.exception("the unfinished layer %s cannot be removed", id)


class _Archive:
    """A layer's tar; ``is_read`` tells whether any of it was read."""

    def __init__(
        self,
        body: ReadStream,
        first_read: Callable[[], None],
        link: Callable[[str], bool] | None,
        call: Call | None,
    ) -> None:
        self._link = link
        self._body = body
        self._first_read = first_read
        self._call = call
        self.is_read = False

    def link(self, path: str) -> bool:
        return self._link is not None and self._link(path)

    def read(self, n: int, /) -> bytes:
        if not self.is_read:
            self.is_read = True
            self._first_read()
        piece = self._body.read(n)
        if self._call:
            self._call.came_in(len(piece))
        return piece


def read_to_end(body: ReadStream) -> None:
    """Read a stream to its end.

    Raises:
        BrokenStreamError: it broke off.
    """
    while body.read(_PIECE):
        pass


def _shortest(path: str) -> str:
    """Return a path in its shortest form; `os.path.normpath` keeps two slashes at its start."""
    return f"/{os.path.normpath(path).lstrip('/')}"


def _moved(path: str) -> str:
    return (
        f"{path} is not the directory that was served until now: it was deleted, or something was"
        " mounted there"
    )
