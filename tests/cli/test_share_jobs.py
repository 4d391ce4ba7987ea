"""The jobs of clusters that fill a store, as docs/shared-layers.md shows them: each task one image."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from graphdriver.conformance.plugin import tars
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.opening import open_store
from tests.support.containerd_images import write_image
from tests.support.documented import block
from tests.support.shared_store import links_of

pytestmark = pytest.mark.root

PAGE = "docs/shared-layers.md"
IMAGES = [[tars.tar(tars.directory(b"./"), tars.file(b"%d" % number))] for number in range(3)]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a store and images, and with the command where a job finds it."""
    for name in ("layers", "images", "work", "bin"):
        (tmp_path / name).mkdir()
    for number, layers in enumerate(IMAGES):
        write_image(tmp_path / f"images/{number}.tar", f"image:{number}", layers)
    command = tmp_path / "bin/graphdriver"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m graphdriver "$@"\n')
    command.chmod(0o755)
    return tmp_path


def expect_second_pushed(site: Path, script: str, environment: Mapping[str, str]) -> None:
    """Run a task, with the paths of this machine; see that it puts the second image there."""
    for path, here in (("/mnt/layers", "layers"), ("/data/images", "images"), ("/work", "work")):
        script = script.replace(path, str(site / here))
    path = f"{site}/bin:{os.environ['PATH']}"
    subprocess.run(
        ["/bin/bash", "-euc", script], check=True, env={**os.environ, **environment, "PATH": path}
    )
    shared = SharedLayers(open_store(str(site / "layers")))
    there = [shared.is_there(link) for layers in IMAGES for link in links_of(layers)]
    assert there == [False, True, False]
    assert os.listdir(site / "work") == []


def test_a_task_of_a_slurm_array_pushes_one_image(site: Path) -> None:
    script = block(PAGE, "sh", "#SBATCH")
    directives = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert all(line.startswith("#SBATCH --") and "=" in line for line in directives)
    environment = {"SLURM_ARRAY_TASK_ID": "1", "TMPDIR": str(site / "work")}
    expect_second_pushed(site, script, environment)


def test_a_pod_of_a_kubernetes_job_pushes_one_image(site: Path) -> None:
    job = yaml.safe_load(block(PAGE, "yaml", "kind: Job"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["completionMode"] == "Indexed"  # which sets the variable
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert container["command"] == ["/bin/bash", "-euc"]
    (script,) = container["args"]
    expect_second_pushed(site, script, {"JOB_COMPLETION_INDEX": "1"})
