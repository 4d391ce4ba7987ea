"""The daemons that the tests share, and the rule that no test passes without our plugin.

Each test says by ``@pytest.mark.reaches("Create", "ApplyDiff", …)`` which calls the daemon must have
made while it ran, and by ``failing=("ApplyDiff",)`` which may have been answered with an error. When
the test is over, the plugin's own log is asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import debian
from tests.e2e.engines import DRIVERS, PEERS, Engines
from tests.support.daemon import Daemon
from tests.support.ground import Docker, find_docker
from tests.support.plugin_process import Call, Plugin
from tests.support.small_image import small_image, static_busybox
from tests.support.waiting import wait_until

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "reaches(*calls, failing=()): which calls must have reached the plugin"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; pytest gives those of all others too."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("docker")
            item.add_marker("root")


@pytest.fixture(scope="session")
def docker_programs() -> Docker:
    return find_docker()


@pytest.fixture(scope="session")
def engines(docker_programs: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with contextlib.closing(Engines(docker_programs, tmp_path_factory.mktemp("logs"))) as engines:
        yield engines


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """The driver that our plugin serves."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared(engines: Engines, driver: str) -> Iterator[tuple[Daemon, Plugin]]:
    """A daemon and the plugin that it runs on."""
    with engines.on_plugin(driver) as both:
        yield both


@pytest.fixture(scope="session")
def shared_theirs(engines: Engines, driver: str) -> Iterator[Daemon]:
    """A daemon on Docker's own driver of the same name, or on the one that is most like it."""
    with engines.on_driver(PEERS[driver], behind=driver) as daemon:
        yield daemon


@pytest.fixture
def ours(shared: tuple[Daemon, Plugin]) -> Daemon:
    """The daemon on our plugin that most tests share, empty."""
    shared[0].clear()
    return shared[0]


@pytest.fixture
def theirs(shared_theirs: Daemon) -> Daemon:
    """The daemon on Docker's own driver that the tests share, empty."""
    shared_theirs.clear()
    return shared_theirs


@pytest.fixture
def plugin(shared: tuple[Daemon, Plugin]) -> Plugin:
    """The plugin under `ours`."""
    return shared[1]


@pytest.fixture(scope="session")
def busybox() -> bytes:
    return static_busybox()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Path:
    """An image called ``small``, to be loaded."""
    return small_image(tmp_path_factory.mktemp("small"), busybox)


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    return debian.root_filesystem()


@pytest.fixture(autouse=True)
def _the_daemons_calls_reached_the_plugin(
    request: pytest.FixtureRequest, engines: Engines
) -> Iterator[None]:
    marks = {plugin.log: plugin.mark() for plugin in engines.plugins}
    yield
    expected = request.node.get_closest_marker("reaches")
    assert expected, "a test here says which calls must reach the plugin: pytest.mark.reaches"

    def calls_since() -> list[Call]:
        return [one for plugin in engines.plugins for one in plugin.calls(marks.get(plugin.log, 0))]

    def missed() -> set[str]:
        return set(expected.args) - {call.method for call in calls_since()}

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not missed())  # a Diff's line comes after its last byte
    calls = calls_since()
    names = sorted({call.method for call in calls})
    assert not missed(), f"never called: {missed()}; these were: {names}"
    may_fail = expected.kwargs.get("failing", ())
    failed = [call.line for call in calls if call.status != 200 and call.method not in may_fail]
    assert not failed, "answered with an error:\n" + "\n".join(failed)
