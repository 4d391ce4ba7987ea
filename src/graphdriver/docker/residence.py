"""Which home is served, for which daemon, and who may say so.

Between Init and Cleanup there is one home. A daemon's Init takes it up; so does the start of a plugin
that was restarted under a daemon, from what was remembered; and so does a call that finds that Cleanup
has let go of the home, or that another directory is at its path. An Init that names another home, from
another daemon while the first still lives, is refused: its layers would be lost to the first one.

A call that is made by hand and would disturb that daemon (Init, which takes its place, is one) is
refused while it lives, or may live. Unmarked calls are a daemon's own, and are never refused for this.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import Final

from graphdriver import returned
from graphdriver.docker.daemon import Daemon, DaemonFile, Peer
from graphdriver.docker.http.requests import BY_HAND
from graphdriver.docker.messages import InitRequest
from graphdriver.driver import CountsGets, Driver, ability
from graphdriver.errors import InUseError, NotReadyError, UnsupportedError
from graphdriver.serving import leftovers
from graphdriver.serving.home import Home
from graphdriver.serving.init_lock import InitLock
from graphdriver.serving.options import take_option

PATIENCE: Final = 12.0
"""How long a plugin that starts waits for one that still ends, in seconds; a server takes up to 10."""

ENGINE: Final = "docker"

_RESTART: Final = "restart the daemon: it says Init when it starts"

_CLEAN_UP: Final = 'make its last call yourself: "graphdriver call --force ... Cleanup"'

_log = logging.getLogger(__name__)


class Residence:
    """The home that is served now, if there is one; a ``with`` block on it is one call inside.

    Args:
        driver: whose ``init`` is called.
        state_dir: where Init is remembered; None: nowhere.
        options: put before those that a daemon says.
    """

    def __init__(self, driver: Driver, state_dir: str | None, options: tuple[str, ...]) -> None:
        self._driver = driver
        self._file = DaemonFile(state_dir) if state_dir else None
        self._options = options
        self._init_lock = InitLock()
        self._home: Home | None = None
        self._daemon: Daemon | None = None
        self._trouble = ""
        self._may_go = False
        """Everything is unmounted; the home is let go of when no call is inside."""
        self.syncs = True

    def __enter__(self) -> None:
        """Be inside while a call runs: no Init comes between.

        Raises:
            NotReadyError: there is no home.
        """
        self._init_lock.begin_call()
        if not self._is_served():
            self._init_lock.end_call()
            self._resume(patience=0)  # what was in the way may be gone
            self._init_lock.begin_call()
        if self._home is None:
            self._init_lock.end_call()
            raise NotReadyError(
                self._trouble or f"no daemon has said Init to this plugin yet; {_RESTART}"
            )

    def __exit__(self, *exc: object) -> None:
        if self._init_lock.end_call() and self._may_go:
            with contextlib.suppress(InUseError):  # whoever came meanwhile is the last then
                self._let_go()

    def _is_served(self) -> bool:
        return self._home is not None and self._home.is_current()

    def _let_go(self) -> None:
        with self._init_lock.exclusive(patience=0):
            if self._home and self._may_go:
                self._home.close()
                self._home = None

    @property
    def home(self) -> Home:
        """The home, for who is inside."""
        assert self._home is not None
        return self._home

    def init(self, said: InitRequest, peer: Peer | None, *, by_hand: bool = False) -> None:
        """Take up the home that a daemon names, and remember it.

        Raises:
            InUseError: another daemon, or another process, is at it.
            UnsupportedError: the home is another driver's, or an option is not known.
        """
        # Before it is waited for, too: who is refused must not hold up the daemon's calls.
        self._refuse_another(said, peer, by_hand=by_hand)
        with self._init_lock.exclusive():
            self._refuse_another(said, peer, by_hand=by_hand)
            current = self._daemon
            home = self._take_up(said)
            home.created.clear()  # a daemon that just began has created nothing
            if current is None or peer is None or peer != current.peer:
                counting = ability(self._driver, CountsGets)
                if counting:
                    counting.daemon_began()
            if current and not by_hand and current.is_followed_by(said, peer):
                leftovers.sweep(self._driver, home)
            # Behind an Init that was made by hand there is no daemon.
            self._remember(Daemon(said, None, left=True) if by_hand else Daemon(said, peer))

    def _refuse_another(self, said: InitRequest, peer: Peer | None, *, by_hand: bool) -> None:
        """Refuse an Init that would take the place of a daemon that lives."""
        if by_hand:
            self.refuse_by_hand()
        current = self._daemon
        if current and not current.may_be_replaced_by(said, peer):
            raise InUseError(
                f"this plugin serves {current.said.home} for {current}, and cannot serve"
                f" {said.home} for {peer or 'another daemon'} as well",
                hint="give each daemon a plugin of its own"
                + ("" if current.peer else f"; if that one is gone, {_CLEAN_UP}"),
            )

    def refuse_by_hand(self) -> None:
        """Refuse a call that is made by hand while the daemon of the last Init lives.

        Raises:
            InUseError: it lives, or may live.
        """
        try:
            daemon = self._daemon or (self._file.read() if self._file else None)
        except ValueError as error:
            served = f"a daemon that is unknown ({error})"
        else:
            if daemon is None or not daemon.may_live():
                return
            served = f"{daemon.said.home} for {daemon}"
        raise InUseError(
            f"this plugin serves {served}; a call that is made by hand would disturb it",
            hint="stop the daemon first, or make the call with --force (without the header"
            f" {BY_HAND})",
        )

    def resume(self) -> None:
        """Take up what was remembered, at the start of a process; calls wait meanwhile.

        A former process is given time to end its last calls. What else goes wrong is told by the
        calls that need a home; each of them tries again.

        Raises:
            UnsupportedError: the driver cannot serve that home, and its daemon may still call.
        """
        trouble = self._resume(PATIENCE, at_start=True)
        daemon = self._daemon
        if isinstance(trouble, UnsupportedError) and daemon and daemon.may_call():
            raise UnsupportedError(
                f"cannot serve {daemon.said.home} for {daemon}: {trouble}",
                hint="start it as it was started before, or stop that daemon first",
            ) from trouble

    def _resume(self, patience: float, *, at_start: bool = False) -> Exception | None:
        """Take up what was remembered; return what went wrong."""
        with self._init_lock.exclusive():
            if self._is_served():
                return None
            try:
                if self._daemon is None and self._file:
                    self._daemon = self._file.read()
                if self._daemon is None or (at_start and self._daemon.left):
                    return None
                home = self._daemon.said.home
                self._home = self._held_at(_path_of(self._daemon.said))
                if not os.path.isdir(home):
                    raise NotReadyError(f"{home} is not there any more")
                self._take_up(self._daemon.said, patience)
            except Exception as error:  # a driver's init may raise anything
                hint = getattr(error, "hint", None)
                trouble = f"the home of the last Init could not be taken up again: {error}"
                trouble += "" if hint else f"; {_RESTART}"
                if trouble != self._trouble:
                    _log.warning("%s", trouble)
                self._trouble = trouble
                return error
            _log.info("took up %s again", home)
            return None

    def left(self, peer: Peer | None) -> None:
        """Note that the daemon has called Cleanup, for who is inside.

        Nothing is mounted any more. What the home is on can be unmounted when no call is inside; a
        later call takes the home up again.
        """
        self._may_go = True
        if self._daemon and peer == self._daemon.peer:
            self._remember(Daemon(self._daemon.said, peer, left=True))

    def close(self) -> None:
        """Let go of the home for good, once no call runs any more."""
        if self._home:
            self._home.close()
        if self._file and self._daemon and self._daemon.left:
            self._file.forget(self._daemon)
        self._home = self._file = self._daemon = None

    def _take_up(self, said: InitRequest, patience: float = 0) -> Home:
        options, adopt, syncs = split_options((*self._options, *said.options))
        path = _path_of(said)
        # A driver knows one home, and after an init that failed perhaps none rightly. So there is none
        # until all is well, and if it never is, the next call takes up again what is remembered.
        home, self._home = self._held_at(path), None
        home = home or Home(path, tuple(said.gid_maps), patience, adopt=adopt)
        try:
            driver = self._driver
            home.claim(ENGINE, driver.driver_name or type(driver).__name__, driver.home_format)
            driver.init(path, options, said.uid_maps, said.gid_maps)
            home.bind(returned.capabilities(driver.capabilities()).reproduces_exact_diffs)
            home.unmark_all_but(lambda layer: returned.truth(driver.exists(layer)))
        except BaseException:
            home.close()
            raise
        self._home, self.syncs, self._trouble, self._may_go = home, syncs, "", False
        return home

    def _held_at(self, path: str) -> Home | None:
        """Return the home that is held, if it is the one at this path; else let go of it."""
        home = self._home
        if home is None or (home.path == path and home.is_current()):
            return home
        if home.path == path:
            _log.warning(
                "%s is not the directory that was served until now: it was deleted, or something was"
                " mounted there",
                path,
            )
        home.close()
        return None

    def _remember(self, daemon: Daemon) -> None:
        if self._file:
            self._file.write(daemon)
        self._daemon = daemon


def _path_of(said: InitRequest) -> str:
    """Return a home's path in its shortest form; `os.path.normpath` keeps two slashes at its start."""
    return f"/{os.path.normpath(said.home).lstrip('/')}"


def split_options(options: Sequence[str]) -> tuple[list[str], bool, bool]:
    """Return a driver's options without the framework's, and these: ``adopt`` and ``sync``.

    Raises:
        UnsupportedError: one of the framework's has a value that it does not know.
    """
    rest, adopt = take_option(options, "adopt", ("no", "yes"))
    rest, sync = take_option(rest, "sync", ("layer", "none"))
    return rest, adopt == "yes", sync == "layer"
