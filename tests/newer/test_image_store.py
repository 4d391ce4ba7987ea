"""Docker with the image store of containerd, on a snapshotter of ours (Docker 28's only way to it)."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphdriver.linux.mountinfo import mount_points
from tests.newer.conftest import EITHER_DIFFER
from tests.support.daemon import Daemon
from tests.support.registry import registry
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

CHANGES = "echo new > /data/new; echo more >> /data/file; rm -r /bin/tail; mkdir /made; sync"

DOCKERFILE = b"""\
FROM changed
RUN ["/bin/sh", "-c", "cat /data/new /data/file > /built && rm /data/new"]
CMD ["cat", "/built"]
"""


@pytest.mark.root
@pytest.mark.docker
@EITHER_DIFFER
def test_images_and_containers_live_on_the_snapshotter_and_leave_nothing(
    daemon: Daemon, snapshotter: Snapshotter, small: Path, tmp_path: Path
) -> None:
    assert "io.containerd.snapshotter.v1" in daemon.docker("info")
    assert daemon.docker("info", "--format", "{{.Driver}}") == "ours\n"
    daemon.docker("load", "--input", str(small))
    assert daemon.run("small", "cat", "/data/file") == "from the image\n"
    daemon.docker("run", "--network=none", "--name=one", "small", "sh", "-c", CHANGES)
    assert sorted(daemon.docker("diff", "one").splitlines()) == [
        "A /data/new",
        "A /made",
        "C /bin",
        "C /data",
        "C /data/file",
        "D /bin/tail",
    ]
    daemon.docker("commit", "one", "changed")
    assert daemon.run("changed", "sh", "-c", "cat /data/*") == "from the image\nmore\nnew\n"
    assert "tail" not in daemon.run("changed", "sh", "-c", "echo /bin/*")
    daemon.docker("build", "--network=none", "--tag=built", "-", input=DOCKERFILE)
    assert daemon.run("built") == "new\nfrom the image\nmore\n"
    daemon.docker_to_file(tmp_path / "saved.tar", "save", "built")
    assert len(snapshotter.layers()) > 4
    daemon.clear()
    daemon.docker("load", "--input", str(tmp_path / "saved.tar"))
    assert daemon.run("built") == "new\nfrom the image\nmore\n"
    daemon.clear()
    wait_until(lambda: not snapshotter.layers())
    root = str(snapshotter.root).encode()
    wait_until(lambda: not any(root in one.point for one in mount_points()))


@pytest.mark.root
@pytest.mark.docker
@pytest.mark.long
@EITHER_DIFFER
def test_an_image_comes_back_from_a_registry_with_the_same_digests(
    daemon: Daemon, snapshotter: Snapshotter, small: Path, tmp_path: Path
) -> None:
    def digests(image: str) -> str:
        shown = "{{.ID}} {{.RepoDigests}} {{.RootFS.Layers}}"
        return daemon.docker("image", "inspect", "--format", shown, image)

    with registry(tmp_path) as address:
        name = f"{address}/built:1"
        daemon.docker("load", "--input", str(small))
        daemon.docker("run", "--network=none", "--name=one", "small", "sh", "-c", CHANGES)
        daemon.docker("commit", "one", "changed")
        daemon.docker("build", "--network=none", f"--tag={name}", "-", input=DOCKERFILE)
        pushed = digests(name)
        daemon.docker("push", name)
        daemon.clear()
        wait_until(lambda: not snapshotter.layers())
        daemon.docker("pull", name)
        assert digests(name) == pushed
        assert daemon.run(name) == "new\nfrom the image\nmore\n"
        daemon.clear()
    wait_until(lambda: not snapshotter.layers())
