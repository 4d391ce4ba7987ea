"""``graphdriver doctor`` on a machine where a real daemon runs on a plugin: healthy, then sick."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.e2e.homes import home_of
from tests.support.command import graphdriver
from tests.support.daemon import Daemon

pytestmark = pytest.mark.parametrize("driver", ["overlay2"], indirect=True)


def examined(plugin: str, daemon: Daemon) -> dict[str, tuple[str, str]]:
    """Return severity and text of each finding about a plugin's home, and the daemon, by its code."""
    done = graphdriver(
        "doctor", "--plugin", plugin, "--daemon-socket", str(daemon.socket), "--json"
    )
    assert done.returncode in (0, 13, 14), done.stderr
    findings = json.loads(done.stdout)["findings"]
    # Other tests' plugins are places where daemons look, too.
    mine = (one for one in findings if one["check"] != "sockets" or plugin in one["subject"])
    return {one["code"]: (one["severity"], one["text"]) for one in mine}


@pytest.mark.reaches("Init", "Get", "Create", "CreateReadWrite", "Put", "Remove")
def test_a_healthy_machine_has_notes_alone_and_a_sick_one_is_told_what_to_do(
    engines: Engines, driver: str, small: Path
) -> None:
    with engines.on_plugin(driver) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--detach", "--name=lives", "--network=none", "small", "sleep", "600")
        healthy = examined(plugin.name, daemon)
        home = home_of(daemon)
        # Daemons of tests keep their data in memory.
        bad = {code for code, (severity, _) in healthy.items() if severity != "note"}
        assert bad <= {"in-memory"}
        said = healthy["daemon"][1]
        assert said.startswith("Docker 2")
        assert said.endswith(f" on {plugin.name} at {daemon.root}")
        assert healthy["home"][1].startswith("overlay2 for docker on ")
        assert f"served by process {plugin.pid} " in healthy["home"][1]
        assert healthy["mounts"][1] == "1 mounts below it, 1 of them explained"
        assert healthy["one-namespace"][0] == "note"

        # Somebody forgets a mount, and keeps it busy.
        (leaked := home / "0123456789abcdef" / "merged").mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "forgotten", leaked], check=True)
        with subprocess.Popen(["sleep", "600"], cwd=leaked) as holder:
            try:
                sick = examined(plugin.name, daemon)
            finally:
                holder.terminate()
        subprocess.run(["umount", leaked], check=True)
        leaked.rmdir()
        leaked.parent.rmdir()
        severity, text = sick["leaked-mount"]
        assert severity == "warning"
        assert f"process {holder.pid} (sleep) has its cwd there" in text
        assert sick["mounts"][1] == "2 mounts below it, 1 of them explained"

        plugin.kill()
        dead = examined(plugin.name, daemon)
        assert dead["stale-place"][0] == "warning"
        assert dead["home"][1].endswith("served by no process seen here")
        # The container's mount is explained: the daemon has a record of it.
        assert dead["mounts"][1] == "1 mounts below it, 1 of them explained"
        plugin.start()
        daemon.docker("rm", "--force", "lives")
