"""What a soak leaves behind is ended: it would keep disks and loop devices."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.filesystems import unmount
from tests.support.ground import find_docker
from tests.support.leftovers import end_starting


@pytest.mark.root
@pytest.mark.docker
def test_a_container_that_was_left_while_it_started_is_ended(tmp_path: Path) -> None:
    find_docker()  # runc comes with it
    bundle, state = tmp_path / "bundle", tmp_path / "state"
    root = bundle / "rootfs"
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
    (root / "never-run").touch(0o755)
    runc = ["runc", "--root", str(state)]
    try:
        subprocess.run(["runc", "spec", "--bundle", bundle], check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": ["/never-run"]}
        (bundle / "config.json").write_text(json.dumps(config))
        with open(tmp_path / "log", "wb") as log:  # no pipe: the container keeps it open
            create = [*runc, "create", "--bundle", str(bundle), "left"]
            subprocess.run(create, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        asked = subprocess.run([*runc, "state", "left"], check=True, stdout=subprocess.PIPE)
        process = json.loads(asked.stdout)["pid"]
        assert end_starting(tmp_path / "another") == []
        assert end_starting(state) == [process]
        assert end_starting(state) == []
    finally:
        subprocess.run([*runc, "delete", "--force", "left"], check=True)
        unmount(root)
