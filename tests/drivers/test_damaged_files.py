"""Whatever bytes a small file holds: it is read as before, or one line names it and says what to do.

Each damage is drawn from a seed, which is printed: ``GRAPHDRIVER_DAMAGE_SEED=…`` makes the same ones.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.conformance.kit.tree import build
from graphdriver.containerd.held_gets import HeldGets
from graphdriver.docker.address import spec_files as spec
from graphdriver.docker.address.discovery import ClientTLS, find
from graphdriver.docker.address.spec_files import SpecFile
from graphdriver.docker.daemon import Daemon, InitFile, Peer
from graphdriver.docker.messages import InitRequest
from graphdriver.docker.session import DaemonSession
from graphdriver.driver import mounted
from graphdriver.drivers.overlay.reference_counts import ReferenceCounts
from graphdriver.drivers.probe_record import RECORD
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError, InUseError, LayerDamagedError
from graphdriver.serving.home import Home
from tests.drivers.damage import damaged
from tests.drivers.every import OVERLAYS, serving
from tests.drivers.layers import layer, read_diff
from tests.support.long import LONG, times
from tests.support.tarbox import TarBox

pytestmark = pytest.mark.root

SEED = os.environ.get("GRAPHDRIVER_DAMAGE_SEED") or (secrets.token_hex(4) if LONG else "gate")
TIMES = times(gate=40, long=1000)


@contextlib.contextmanager
def damages(path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Iterator[bytes]]:
    """Give the damages of a file, one after the other, each of which is written to it."""
    print(f"GRAPHDRIVER_DAMAGE_SEED={SEED}")
    chance = random.Random(f"{SEED}/{path.name}")
    whole = path.read_bytes()

    def each() -> Iterator[bytes]:
        for _ in range(TIMES):
            data = damaged(whole, chance)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            caplog.clear()
            yield data
            for record in caplog.records:
                assert is_one_line(record.getMessage()), record.getMessage()
                assert record.exc_info is None, record.getMessage()

    caplog.set_level(logging.INFO)
    yield each()


def is_one_line(text: str) -> bool:
    return len(text.splitlines()) == 1 and len(text) < 2000 and "Error:" not in text


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Let errors pass that are a line which names a file and says what to do."""
    try:
        yield
    except GraphDriverError as error:
        check(error, str(path))


def check(error: GraphDriverError, named: str) -> None:
    text = str(error)
    assert named in text
    assert is_one_line(text)
    assert text.encode()
    assert error.hint or "restart the daemon" in text


def test_home_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "home"

    def take_up() -> None:
        with contextlib.closing(Home(str(path))) as home:
            home.claim("docker", "vfs", 1)
            home.bind(exact_diffs=False)

    take_up()
    with damages(path / ".graphdriver/home.json", caplog) as each:
        for _ in each:
            with told(path):
                take_up()


def test_the_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "home"
    with (
        contextlib.closing(Home(str(path))),
        damages(path / ".graphdriver/lock", caplog) as each,
    ):
        for _ in each:
            with pytest.raises(InUseError) as refusal:
                Home(str(path))
            check(refusal.value, str(path))


def test_a_mark(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(Home(str(tmp_path / "home"))) as home:
        home.mark("half")
    with damages(tmp_path / "home/.graphdriver/applying/half", caplog) as each:
        for _ in each:
            with contextlib.closing(Home(str(tmp_path / "home"))) as home:
                assert home.is_unfinished("half")
                home.unmark("half")


def test_init_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home, state = tmp_path / "home", tmp_path / "state"
    said = InitRequest(str(home), ("an option",), (), ())
    with contextlib.closing(DaemonSession(TarBox(), str(state), ())) as first:
        first.init(said, Peer.of_process(os.getpid()))
    InitFile(str(state)).write(Daemon(said, Peer.of_process(os.getppid())))
    with damages(state / "init.json", caplog) as each:
        for _ in each:
            with contextlib.closing(DaemonSession(TarBox(), str(state), ())) as later:
                later.resume()
                with contextlib.suppress(InUseError):
                    later.refuse_by_hand()
                try:
                    with later:
                        assert later.served.home.is_current()
                except GraphDriverError as error:
                    check(error, "Init")


def test_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = ReferenceCounts("/home", str(tmp_path))
    counts.set("layer", 3)
    path = Path(counts._directory) / "layer"
    with damages(path, caplog) as each:
        for _ in each:
            later = ReferenceCounts("/home", str(tmp_path))
            if later.get("layer", mounted=True) != 3 and not later.is_of_this_boot("layer"):
                assert later.get("layer", mounted=True) == 1
            later.set("layer", 2)
            assert ReferenceCounts("/home", str(tmp_path)).get("layer", mounted=True) == 2
            path.unlink()


class PutsAnything(TarBox):
    """Takes the Put of a layer whose name was damaged, too."""

    def get(self, id: str, mount_label: str) -> str:
        return f"/{id}"

    def put(self, id: str) -> None:
        pass


def test_what_a_snapshot_got(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    driver = PutsAnything()
    HeldGets(driver, str(tmp_path / "got"), kept=True).hold(7, "layer")
    with damages(tmp_path / "got/7", caplog) as each:
        for _ in each:
            later = HeldGets(driver, str(tmp_path / "got"), kept=True)
            later.release(7)
            assert 7 not in later.numbers()


@pytest.mark.parametrize("tls", [None, ClientTLS("/ca", "/cert", "/key")], ids=["spec", "json"])
def test_a_spec_file(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tls: ClientTLS | None,
) -> None:
    monkeypatch.setattr(spec, "_why_nobody_answers", lambda _: "nobody is there")
    address = "https://127.0.0.1:2000" if tls else "tcp://127.0.0.1:2000"
    made = SpecFile("plugin", address, tls, str(tmp_path))
    with damages(Path(made.path), caplog) as each:
        for _ in each:
            with told(Path(made.path)):
                find("plugin", str(tmp_path), (str(tmp_path),))
            with told(Path(made.path)):
                SpecFile("plugin", address, tls, str(tmp_path)).close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("file", ["lower", "link"])
def test_the_files_of_a_layer(
    home: Path, caplog: pytest.LogCaptureFixture, name: str, file: str
) -> None:
    with serving(name, home) as driver:
        layer(driver, "below", "", lambda root: build(str(root)))
        layer(driver, "base", "below", lambda root: (root / "base").touch())
        driver.create("layer", "base", "", {})
    calls: list[Callable[[Driver], object]] = [
        lambda driver: driver.put(driver.get("layer", "") and "layer"),
        lambda driver: list(driver.changes("layer", "base")),
        lambda driver: read_diff(driver, "layer", "base"),
        lambda driver: driver.diff_size("layer", "below"),
        lambda driver: driver.create("child", "layer", "", {}),
        lambda driver: driver.get_metadata("layer"),
    ]
    path = home / "layer" / file
    with damages(path, caplog) as each:
        for _ in each:
            with serving(name, home) as driver:
                for call in calls:
                    with told(home):
                        call(driver)
                driver.remove("child")
                driver.remove("layer")
                assert not driver.exists("layer")
                driver.create("layer", "base", "", {})
                with mounted(driver, "layer") as root:
                    assert "base" in os.listdir(root)


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_layer_whose_list_of_layers_is_missing_is_no_first_layer(home: Path, name: str) -> None:
    with serving(name, home) as driver:
        driver.create("base", "", "", {})
        driver.create("layer", "base", "", {})
        (home / "layer/lower").unlink()
        with pytest.raises(
            LayerDamagedError, match=r"layer/lower is damaged or missing; graphdriver fsck"
        ):
            driver.get("layer", "")
        driver.remove("layer")


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_list_that_names_a_layer_twice(home: Path, name: str) -> None:
    with serving(name, home) as driver:
        driver.create("base", "", "", {})
        driver.create("layer", "base", "", {})
        base = (home / "layer/lower").read_text()
        (home / "layer/lower").write_text(f"{base}:{base}")
        with pytest.raises(LayerDamagedError, match="layer/lower is damaged or missing"):
            driver.get("layer", "")


@pytest.mark.parametrize("name", ["overlay2", "erofs"])  # fuse-overlayfs mounts it
def test_a_list_that_names_the_layer_itself(home: Path, name: str) -> None:
    with serving(name, home) as driver:
        driver.create("base", "", "", {})
        driver.create("layer", "base", "", {})
        (home / "layer/lower").write_text(f"l/{(home / 'layer/link').read_text()}")
        with pytest.raises(LayerDamagedError, match="layer/lower is damaged or missing"):
            driver.get("layer", "")


def test_what_vfs_notes_of_a_copy(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving("vfs", home) as driver:
        layer(driver, "base", "", lambda root: build(str(root)))
        layer(driver, "layer", "base", lambda root: (root / "new").touch())
        expected = list(driver.changes("layer", "base")), read_diff(driver, "layer", "base")
        with damages(home / "layer/made", caplog) as each:
            for _ in each:
                assert list(driver.changes("layer", "base")) == expected[0]
                assert read_diff(driver, "layer", "base") == expected[1]


def test_a_damaged_note_of_a_copy_keeps_no_leftover(home: Path) -> None:
    driver = VfsDriver()
    driver.init(str(home), [], [], [])
    for id in ("half", "other"):
        driver.create(id, "", "", {})
    (home / "other/made").write_bytes(b"\xff")
    assert driver.is_leftover("half")


@pytest.mark.parametrize("name", ["vfs", *OVERLAYS])
def test_what_a_probe_found(home: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    with serving(name, home):
        pass
    with damages(home / RECORD, caplog) as each:
        for _ in each:
            with serving(name, home) as driver:
                driver.status()
