"""A daemon's session with the plugin: from its Init to its Cleanup, across restarts of the plugin.

A daemon sends Init once, which opens a home. The home of the remembered Init
(`graphdriver.docker.daemon`) is opened again when a plugin is restarted under a running daemon, and by
a call after the home was released at Cleanup, or after another directory appeared at its path. An Init
of another daemon for another home is refused while the first daemon lives: it would lose its layers.

A call that is made by hand and would disturb that daemon (Init, for example, would replace it) is
refused while the daemon lives, or may live. Unmarked calls are a daemon's own, and are never refused
for this.
"""

from __future__ import annotations

import logging
from typing import Final

from graphdriver import returned
from graphdriver.docker.daemon import Daemon, InitFile, Peer
from graphdriver.docker.http.requests import BY_HAND
from graphdriver.docker.messages import InitRequest
from graphdriver.driver import Driver
from graphdriver.errors import InUseError, NotReadyError, UnsupportedError
from graphdriver.serving.call_log import described
from graphdriver.serving.served_home import ServedHome

TIMEOUT: Final = 12.0
"""How long a new plugin waits for the old one to end, in seconds; a server takes up to 10."""

ENGINE: Final = "docker"

_RESTART: Final = "restart the daemon, which sends Init at startup"

_CLEAN_UP: Final = 'make its last call yourself: "graphdriver call --force ... Cleanup"'

_log = logging.getLogger(__name__)


class DaemonSession:
    """The session of the daemon that sent the last Init; a ``with`` block on it is one call.

    Args:
        driver: keeps the layers.
        state_dir: where Init is remembered for a restarted plugin; None: nowhere.
        options: options that come before those of a daemon.

    Attributes:
        served: the driver in the home that the last Init named.
    """

    def __init__(
        self, driver: Driver, state_dir: str | None = None, options: tuple[str, ...] = ()
    ) -> None:
        self.served = ServedHome(driver, ENGINE, options)
        self._driver = driver
        self._file = InitFile(state_dir) if state_dir else None
        self._daemon: Daemon | None = None
        self._trouble = ""
        """Why the remembered home could not be opened again."""

    def __enter__(self) -> None:
        """Begin a call: no Init runs until it ends.

        Raises:
            NotReadyError: there is no home.
        """
        if self.served.begin_call():
            return
        self._resume(timeout=0)  # the reason why the home could not be opened may be gone
        if not self.served.begin_call():
            raise NotReadyError(self._trouble or f"the plugin is not initialised; {_RESTART}")

    def __exit__(self, *exc: object) -> None:
        self.served.end_call()

    def init(self, request: InitRequest, peer: Peer | None, *, by_hand: bool = False) -> None:
        """Open the home that a daemon names, and remember its Init.

        Args:
            request: the daemon's request.
            peer: the process that sends it; None: unknown.
            by_hand: whether a person makes the call.

        Raises:
            InUseError: another daemon, or another process, uses the plugin or the home.
            UnsupportedError: the home is another driver's, or an option is not known.
        """
        # Also before the wait for calls: a refused Init must not delay the daemon's calls.
        self._refuse_another(request, peer, by_hand=by_hand)
        with self.served.no_calls():
            self._refuse_another(request, peer, by_hand=by_hand)
            previous = self._daemon
            self._open(request)
            self.served.created.clear()  # a daemon that has just started has created nothing
            counts_gets = self.served.counts_gets
            if counts_gets and (previous is None or peer is None or peer != previous.peer):
                counts_gets.daemon_began()
            if previous and not by_hand and previous.is_followed_by(request, peer):
                self.served.sweep_leftovers()
            # Before the answer: after it the daemon never sends Init again, even if the plugin is
            # killed. An Init that was made by hand has no daemon.
            self._remember(
                Daemon(request, None, cleaned_up=True) if by_hand else Daemon(request, peer)
            )

    def _refuse_another(self, request: InitRequest, peer: Peer | None, *, by_hand: bool) -> None:
        """Refuse an Init that would replace a living daemon's."""
        if by_hand:
            self.refuse_by_hand()
        current = self._daemon
        if current and not current.may_be_replaced_by(request, peer):
            raise InUseError(
                f"this plugin serves {current.init.home} for {current}, and cannot serve"
                f" {request.home} for {peer or 'another daemon'} as well",
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
            served = f"{daemon.init.home} for {daemon}"
        raise InUseError(
            f"this plugin serves {served}; a call that is made by hand would disturb it",
            hint="stop the daemon first, or make the call with --force (without the header"
            f" {BY_HAND})",
        )

    def resume(self) -> None:
        """Open the home of the remembered Init, at the start of a process; calls wait meanwhile.

        An earlier process gets time to end its last calls. After other errors each call that needs a
        home tries again, and fails with the error.

        Raises:
            UnsupportedError: the driver cannot serve that home, and its daemon may still call.
        """
        trouble = self._resume(TIMEOUT, at_start=True)
        daemon = self._daemon
        if isinstance(trouble, UnsupportedError) and daemon and daemon.may_call():
            raise UnsupportedError(
                f"cannot serve {daemon.init.home} for {daemon}: {trouble}",
                hint="start it as it was started before, or stop that daemon first",
            ) from trouble

    def _resume(self, timeout: float, *, at_start: bool = False) -> BaseException | None:
        """Open the home of the remembered Init; return the error, if there is one."""
        with self.served.no_calls():
            if self.served.is_current():
                return None
            try:
                if self._daemon is None:
                    self._daemon = self._remembered()
                if self._daemon is None or (at_start and self._daemon.cleaned_up):
                    return None
                # Never create it: a missing home may be on a filesystem that is not mounted yet.
                self._open(self._daemon.init, timeout, make=False)
            except (Exception, SystemExit) as error:  # a driver's init may raise anything
                hint = getattr(error, "hint", None)
                trouble = f"the home of the last Init cannot be opened again: {described(error)}"
                trouble += "" if hint else f"; {_RESTART}"
                if trouble != self._trouble:
                    _log.warning("%s", trouble)
                self._trouble = trouble
                return error
            _log.info("opened %s again", self._daemon.init.home)
            return None

    def _remembered(self) -> Daemon | None:
        """Return the daemon of the remembered Init.

        Raises:
            NotReadyError: what is remembered is damaged.
        """
        try:
            return self._file.read() if self._file else None
        except ValueError as error:
            raise NotReadyError(str(error)) from error

    def _open(self, request: InitRequest, timeout: float = 0, *, make: bool = True) -> None:
        served = self.served
        served.claim(request.home, request.options, request.gid_maps, timeout=timeout, make=make)
        served.init_driver(request.uid_maps, request.gid_maps)
        try:
            # A daemon that relies on this promise keeps no record of a layer's original bytes.
            promise = returned.capabilities(self._driver.capabilities())
            served.home.bind(promise.reproduces_exact_diffs)
        except BaseException:
            served.release()
            raise
        self._trouble = ""

    def clean_up(self, peer: Peer | None) -> None:
        """Record that a daemon has called Cleanup; called while that call runs.

        After Cleanup nothing is mounted. The home is released as soon as no call runs, so that its
        filesystem can be unmounted; a later call opens it again.
        """
        self.served.release_when_idle()
        if self._daemon and peer == self._daemon.peer:
            self._remember(Daemon(self._daemon.init, peer, cleaned_up=True))

    def close(self) -> None:
        """Release the home for good, once no call runs any more."""
        self.served.close()
        if self._file and self._daemon and self._daemon.cleaned_up:
            self._file.forget(self._daemon)
        self._file = self._daemon = None

    def _remember(self, daemon: Daemon) -> None:
        if self._file:
            self._file.write(daemon)
        self._daemon = daemon
