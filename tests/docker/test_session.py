"""Which home is served, and for which daemon, after an error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.docker.daemon import Peer
from graphdriver.docker.messages import InitRequest
from graphdriver.docker.session import DaemonSession
from graphdriver.driver import IDMap
from graphdriver.errors import InUseError, NotReadyError, UnsupportedError
from graphdriver.serving import init_lock
from graphdriver.serving.home import Home
from tests.support.tarbox import TarBox


class Picky(TarBox):
    """Refuses the option ``bad``, but only when it has half taken up the home."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        if "bad" in options:
            raise UnsupportedError("there is no option bad")


def peer_of(pid: int) -> Peer:
    peer = Peer.of_process(pid)
    assert peer
    return peer


@pytest.fixture
def me() -> Peer:
    return peer_of(os.getpid())


@pytest.fixture
def somebody() -> Iterator[Peer]:
    """A process that lives."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield peer_of(process.pid)


@pytest.fixture
def driver() -> Picky:
    return Picky()


@pytest.fixture
def session(driver: Picky, tmp_path: Path) -> Iterator[DaemonSession]:
    session = DaemonSession(driver, str(tmp_path / "state"), ())
    yield session
    session.close()


def init(path: Path, *options: str) -> InitRequest:
    return InitRequest(str(path), options)


def test_a_home_that_could_not_be_taken_up_at_the_start_is_by_the_next_call(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    session.init(init(home), me)
    # A former process may hold the home for as long as its last calls take.
    later = DaemonSession(driver, str(tmp_path / "state"), ())
    for _ in range(2):
        with (
            pytest.raises(NotReadyError, match=f"in use by process {os.getpid()}"),
            later,
        ):
            pass
    session.close()
    with later:
        assert later.served.home.path == str(home)
    later.close()


def test_whom_a_plugin_serves_it_knows_though_the_home_could_not_be_taken_up(
    session: DaemonSession, driver: Picky, me: Peer, somebody: Peer, tmp_path: Path
) -> None:
    session.init(init(tmp_path / "home"), somebody)
    later = DaemonSession(driver, str(tmp_path / "state"), ())
    with pytest.raises(NotReadyError), later:
        pass
    refusal = re.escape(f"this plugin serves {tmp_path / 'home'} for {somebody}, which lives")
    with pytest.raises(InUseError, match=refusal):
        later.init(init(tmp_path / "another"), me)


def test_a_daemon_that_said_cleanup_makes_room_though_it_lives(
    session: DaemonSession, me: Peer, somebody: Peer, tmp_path: Path
) -> None:
    session.init(init(tmp_path / "home"), somebody)
    session.clean_up(me)  # what others say does not count
    with pytest.raises(InUseError, match="and cannot serve"):
        session.init(init(tmp_path / "another"), me)
    session.clean_up(somebody)
    session.init(init(tmp_path / "another"), me)
    with session:
        assert session.served.home.path == str(tmp_path / "another")


def test_a_process_that_got_the_number_of_a_daemon_is_not_that_daemon(
    session: DaemonSession, me: Peer, somebody: Peer, tmp_path: Path
) -> None:
    one, two = init(tmp_path / "one"), init(tmp_path / "two")
    session.init(one, somebody)
    with pytest.raises(InUseError):
        session.init(two, me)
    session.init(one, Peer(somebody.pid, somebody.start - 1))
    session.init(two, me)


def test_a_daemon_that_nobody_has_waited_for_is_gone(
    session: DaemonSession, me: Peer, tmp_path: Path
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        session.init(init(tmp_path / "one"), peer_of(process.pid))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        session.init(init(tmp_path / "two"), me)


@pytest.mark.parametrize("name", ["home", "another"])
def test_after_an_init_that_failed_all_is_as_before(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path, name: str
) -> None:
    session.init(init(tmp_path / "home", "good"), me)
    with pytest.raises(UnsupportedError, match="no option bad"):
        session.init(init(tmp_path / name, "bad"), me)
    with session:
        assert session.served.home.path == driver.home == str(tmp_path / "home")
        assert driver.inits[-1] == (str(tmp_path / "home"), ["good"], [])
    if name == "another":
        Home(str(tmp_path / "another")).close()


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "said"), [(SystemExit(3), "SystemExit: 3"), (MuteError(), "MuteError, which cannot")]
)
def test_whatever_a_driver_raises_when_the_home_is_opened_again_does_not_end_the_plugin(
    session: DaemonSession,
    driver: Picky,
    me: Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    said: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    session.init(init(tmp_path / "home"), me)
    session.served.release()
    with monkeypatch.context() as patch:
        patch.setattr(driver, "init", fail)
        session.resume()
        with pytest.raises(NotReadyError, match=f"cannot be opened again: {said}"), session:
            pass
    with session:
        assert session.served.is_current()


def test_a_damaged_memory_is_told_and_an_init_mends_it(
    session: DaemonSession, me: Peer, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    for text in ("", "{", "[]", '{"init": {}, "peer": null, "left": false}', "\udcff"):
        (tmp_path / "state/init.json").write_text(text, errors="surrogateescape")
        session.resume()
        with pytest.raises(NotReadyError, match=r"the last Init .* restart the daemon"), session:
            pass
    session.init(init(tmp_path / "home"), me)
    with session:
        assert session.served.home.path == str(tmp_path / "home")


def test_a_home_that_is_gone_is_not_made_anew(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path
) -> None:
    session.init(init(tmp_path / "home"), me)
    session.close()
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    later = DaemonSession(driver, str(tmp_path / "state"), ())
    with pytest.raises(NotReadyError, match="does not exist any more; restart"), later:
        pass
    assert not (tmp_path / "home").exists()


def test_a_directory_of_others_is_taken_over_by_an_option_that_no_driver_sees(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "l").mkdir(parents=True)
    for options in ([], ["adopt=no"]):
        with pytest.raises(UnsupportedError, match=r"Docker's own overlay2.*adopt=yes takes it"):
            session.init(init(theirs, *options), me)
    with pytest.raises(UnsupportedError, match=r"option adopt=maybe: adopt is 'no' .* or 'yes'"):
        session.init(init(theirs, "adopt=maybe"), me)
    assert os.listdir(theirs) == ["l"]
    session.init(init(theirs, "adopt=yes", "good"), me)
    assert driver.inits == [(str(theirs), ["good"], [])]
    session.init(init(theirs), me)


def replace(home: Path) -> None:
    """Delete a home and make another one with a mark, as a copy on another filesystem may have."""
    shutil.rmtree(home)
    other = Home(str(home))
    other.claim("docker", "Picky", 1)
    other.mark("half")
    (home / "half").mkdir()
    other.close()


def test_a_call_takes_up_a_home_that_was_replaced(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    session.init(init(home, "good"), me)
    with session:
        session.served.created.add("new")
        assert not session.served.home.is_unfinished("half")
    replace(home)
    with session:
        assert session.served.home.is_current()
        assert session.served.home.is_unfinished("half")
        assert not session.served.created
    assert driver.inits == [(str(home), ["good"], [])] * 2
    with pytest.raises(InUseError):
        Home(str(home))


def test_an_init_takes_up_a_home_that_was_replaced(
    session: DaemonSession, me: Peer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    session.init(init(home), me)
    replace(home)
    session.init(init(home), me)
    assert session.served.home.is_current()
    assert session.served.home.is_unfinished("half")


def test_a_home_that_vanished_is_let_go_of(
    session: DaemonSession, me: Peer, tmp_path: Path
) -> None:
    home, aside = tmp_path / "home", tmp_path / "aside"
    session.init(init(home), me)
    home.rename(aside)
    for _ in range(2):
        with pytest.raises(NotReadyError, match="does not exist any more"), session:
            pass
    Home(str(aside)).close()
    aside.rename(home)
    with session:
        assert session.served.home.is_current()


def test_a_home_that_another_process_took_meanwhile_is_refused(
    session: DaemonSession, me: Peer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    session.init(init(home), me)
    shutil.rmtree(home)
    other = Home(str(home))
    with pytest.raises(NotReadyError, match="is in use by process"), session:
        pass
    other.close()
    with session:
        assert session.served.home.is_current()


def test_after_cleanup_the_home_is_let_go_of_when_the_last_call_has_ended(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    session.init(init(home, "good"), me)
    with session:
        with session:
            session.clean_up(me)
        with pytest.raises(InUseError):
            Home(str(home))
        assert session.served.home.is_current()
    Home(str(home)).close()
    with session:  # a daemon may ask once more
        assert session.served.home.is_current()
    with session:
        assert driver.inits == [(str(home), ["good"], [])] * 2


def test_a_plugin_that_starts_after_a_cleanup_waits_for_a_call(
    session: DaemonSession, me: Peer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    session.init(init(home), me)
    with session:
        session.clean_up(me)
    later = DaemonSession(Picky(), str(tmp_path / "state"), ())
    later.resume()
    Home(str(home)).close()
    with later:
        assert later.served.home.path == str(home)
    later.close()


def test_what_the_next_process_remembers_stays_when_the_former_one_ends(
    session: DaemonSession, me: Peer, somebody: Peer, tmp_path: Path
) -> None:
    session.init(init(tmp_path / "home"), me)
    with session:
        session.clean_up(me)
    later = DaemonSession(Picky(), str(tmp_path / "state"), ())
    later.init(init(tmp_path / "home"), somebody)
    session.close()
    last = DaemonSession(Picky(), str(tmp_path / "state"), ())
    later.close()
    last.resume()
    with last:
        assert last.served.home.path == str(tmp_path / "home")
        last.clean_up(somebody)
    last.close()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("name", "by_hand"), [("home", True), ("another", False)])
def test_an_init_that_is_refused_holds_up_no_call(
    session: DaemonSession,
    me: Peer,
    somebody: Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    by_hand: bool,
) -> None:
    """It would wait for the calls that run, and newcomers for it."""
    monkeypatch.setattr(init_lock, "TIMEOUT", 0.1)
    session.init(init(tmp_path / "home"), somebody)
    refusal = "made by hand would disturb" if by_hand else "and cannot serve"
    with session, pytest.raises(InUseError, match=refusal):
        session.init(init(tmp_path / name), me, by_hand=by_hand)


def test_a_home_has_one_path_however_many_slashes_it_is_written_with(
    session: DaemonSession, driver: Picky, me: Peer, tmp_path: Path
) -> None:
    """No driver's Get may return a path that begins with two."""
    for written in (f"/{tmp_path}/home", f"//{tmp_path}//home/", f"{tmp_path}/home"):
        session.init(InitRequest(written), me)
        with session:
            assert session.served.home.path == driver.home == str(tmp_path / "home")
