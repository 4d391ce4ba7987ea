from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.engines import DRIVERS
from tests.support.daemon import Daemon
from tests.support.images import image_archive

pytestmark = pytest.mark.parametrize(
    "driver", [name for name in DRIVERS if name != "erofs"], indirect=True
)
"""On each driver that does this in another way: the threads of erofs are those of overlay2."""

DOCKERFILE = r"""
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY big /big-1
RUN for i in $(seq 300); do echo {0} > /$i; done
COPY big /big-2
RUN rm /big-1 && cat /1 && sha256sum /big-2 > /sum
"""


@pytest.mark.reaches("Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Diff", "DiffSize")
def test_two_builds_and_a_load_at_the_same_time_all_work(
    ours: Daemon, busybox: bytes, debian_tar: Path, tmp_path: Path
) -> None:
    big = os.urandom(20_000_000)
    for name in ("classic", "buildkit"):
        context = tmp_path / name
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE.replace("{0}", name))
        (context / "busybox").write_bytes(busybox)
        (context / "busybox").chmod(0o755)
        (context / "big").write_bytes(big)
    id = image_archive(tmp_path / "load.tar", "loaded", [debian_tar.read_bytes()])

    build = ["build", "--network=none", "--no-cache", "--quiet"]
    running = [
        ours.begin_docker(*build, "--tag=classic", str(tmp_path / "classic")),
        ours.begin_docker(
            *build, "--tag=buildkit", str(tmp_path / "buildkit"), env={"DOCKER_BUILDKIT": "1"}
        ),
        ours.begin_docker("load", "--input", str(tmp_path / "load.tar")),
    ]
    for process in running:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode(errors="replace")

    assert ours.docker("images", "--no-trunc", "--quiet", "loaded") == f"{id}\n"
    assert ours.run("loaded", "dpkg", "--verify") == ""
    for name in ("classic", "buildkit"):
        check = "sha256sum -c /sum && cat /300 && test ! -e /big-1"
        assert ours.run(name, "sh", "-c", check) == f"/big-2: OK\n{name}\n"
    ours.docker("rmi", "loaded", "classic", "buildkit")
    ours.docker("builder", "prune", "--all", "--force")
