"""Two daemons, two plugins, two drivers, two formats: the second one is refused, naming both."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from graphdriver.drivers.loading import load
from tests.e2e.engines import Engines
from tests.e2e.homes import home_of, layers
from tests.support.daemon import Daemon, DockerError
from tests.support.plugin_process import Plugin

OTHER_DRIVERS = """
from graphdriver.drivers.loading import load

class Another(load("{driver}")):
    driver_name = "another"

class Newer(load("{driver}")):
    home_format = load("{driver}").home_format + 1
"""

pytestmark = pytest.mark.parametrize("driver", ["overlay2"], indirect=True)
"""Homes and daemons are told apart in the same way for every driver."""

INIT = pytest.mark.reaches("Init", failing=("Init", "Status", "Create", "CreateReadWrite"))


def refused(daemon: Daemon, plugin: Plugin) -> str:
    """See that a daemon cannot start on a plugin; return what the plugin answered to its Init."""
    begun = plugin.mark()
    with pytest.raises(DockerError, match="dockerd ended at its start"):
        daemon.start()
    said = [call for call in plugin.calls(begun) if call.method == "Init"]
    assert said
    assert all(call.status == 500 for call in said)
    return str(json.loads(said[0].line)["message"])


def works(daemon: Daemon) -> None:
    assert daemon.run("small", "cat", "/data/file") == "from the image\n"


@INIT
def test_a_second_daemon_on_a_plugin_is_refused_until_the_first_one_has_gone(
    engines: Engines, driver: str, small: Path
) -> None:
    with (
        engines.on_plugin(driver) as (first, plugin),
        engines.daemon(plugin.name) as second,
    ):
        first.docker("load", "--input", str(small))
        for _ in range(2):
            said = refused(second, plugin)
            assert f"this plugin serves {home_of(first)} for process {first.pid}" in said
            assert f"cannot serve {home_of(second)} for process" in said
            works(first)
            # Whom it serves, a new process of the plugin knows too.
            plugin.kill()
            plugin.start()
            works(first)
        first.stop()
        second.start()
        second.docker("load", "--input", str(small))
        assert f"serves {home_of(second)}" in refused(first, plugin)
        works(second)
        second.kill()
        first.start()
        works(first)


@INIT
def test_a_second_plugin_on_a_home_is_refused(engines: Engines, driver: str, small: Path) -> None:
    with (
        engines.on_plugin(driver) as (first, plugin),
        engines.plugin(driver) as other,
        engines.daemon(other.name) as second,
    ):
        first.docker("load", "--input", str(small))
        before = layers(first)
        second.data_root.mkdir()
        home_of(second).symlink_to(home_of(first))
        said = refused(second, other)
        assert f"the home {home_of(second)} is in use by process {plugin.pid}" in said
        assert "; stop it, or choose another home" in said
        assert layers(first) == before
        works(first)
        first.stop()
        plugin.stop()
        second.start()


@INIT
def test_another_driver_or_format_on_a_home_is_refused(
    engines: Engines, driver: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_drivers.py").write_text(OTHER_DRIVERS.format(driver=driver))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with contextlib.ExitStack() as stack:
        plugin = stack.enter_context(engines.plugin(driver))
        others = [
            stack.enter_context(
                contextlib.closing(engines.new_plugin(f"other_drivers:{it}", name=plugin.name))
            )
            for it in ("Another", "Newer")
        ]
        daemon = stack.enter_context(engines.on_driver(plugin.name, behind=driver))
        daemon.docker("load", "--input", str(small))
        before = layers(daemon)
        format = load(driver).home_format
        made = (
            f"the home {home_of(daemon)} was made by driver '{driver}', format {format}, for docker"
        )
        both = [
            f"{made}, and this is driver {other}, for docker"
            for other in (f"'another', format {format}", f"'{driver}', format {format + 1}")
        ]
        # Under a daemon that runs it ends before it serves, and says so.
        for other, said in zip(others, both, strict=True):
            plugin.stop()
            assert said in other.refuse_to_start()
            plugin.start()
            works(daemon)
        # A daemon that starts is told at its Init.
        daemon.stop()
        plugin.stop()
        for other, said in zip(others, both, strict=True):
            other.start()
            assert said in refused(daemon, other)
            other.stop()
        plugin.start()
        daemon.start()
        assert layers(daemon) == before
        works(daemon)
