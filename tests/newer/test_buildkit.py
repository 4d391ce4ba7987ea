"""BuildKit builds on a snapshotter of ours, with all that it asks of mounts besides naming them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.newer.conftest import EITHER_DIFFER, OnSnapshotter
from tests.support.daemon import Daemon
from tests.support.ground import tool
from tests.support.images import LayerTar, image_archive
from tests.support.long import times
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.docker]

FILES = times(gate=20_000, long=80_000)

DOCKERFILE = r"""
FROM small AS made
RUN --mount=type=cache,target=/cache echo cached >> /cache/log && cat /cache/log > /data/cache
RUN --mount=type=tmpfs,target=/scratch echo scratch > /scratch/file && cat /scratch/file > /data/tmpfs
RUN --mount=type=bind,source=file,target=/context cat /context > /data/bind
RUN --mount=type=secret,id=word cat /run/secrets/word > /data/secret
RUN --mount=type=ssh [ -S "$SSH_AUTH_SOCK" ] && echo an agent > /data/ssh
RUN <<END
echo heredoc > /data/run
rm /data/file
END
COPY <<END /data/copied
a heredoc, copied
END

FROM small
COPY --link file /linked/file
COPY --link --from=made /data /made
RUN --mount=type=bind,from=made,source=/data,target=/other cat /other/run > /data/part
{from_another_stage}
CMD ["sh", "-c", "cat /linked/file /made/* /data/*"]
"""

FROM_ANOTHER_STAGE = """\
RUN --mount=type=bind,from=made,target=/other cat /other/data/run > /data/whole
"""

SHOWN = """\
from the context
from the context
cached
a heredoc, copied
heredoc
from the context
an agent
scratch
from the image
heredoc
"""


def build(daemon: Daemon, tag: str, context: Path, dockerfile: str) -> str:
    """Build an image; return what BuildKit said, which it must have been that built it."""
    (context / "Dockerfile").write_text(dockerfile)
    done = daemon.try_docker(
        *("build", "--network=none", "--progress=plain", f"--tag={tag}"),
        f"--secret=id=word,src={context / 'file'}",
        f"--ssh=default={context.with_name('key')}",
        str(context),
        env={"DOCKER_BUILDKIT": "1"},
    )
    said = (done.stderr + done.stdout).decode()
    assert done.returncode == 0, said
    assert "[internal] load build definition from Dockerfile" in said, said
    return said


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    (path / "file").write_text("from the context\n")
    key = path.with_name("key")
    subprocess.run([tool("openssl"), "genpkey", "-algorithm=ed25519", "-out", key], check=True)
    return path


@EITHER_DIFFER
def test_an_image_is_built_with_links_mounts_heredocs_and_stages(
    daemon: Daemon, snapshotter: Snapshotter, small: Path, context: Path
) -> None:
    daemon.docker("load", "--input", str(small))
    text = DOCKERFILE.replace("{from_another_stage}", FROM_ANOTHER_STAGE)
    works = snapshotter.driver != "fuse-overlayfs"
    if not works:  # runc is handed the mount that is named, and does not know the type
        with pytest.raises(AssertionError, match="no such device"):
            build(daemon, "built", context, text)
        text = DOCKERFILE.replace("{from_another_stage}", "")
    build(daemon, "built", context, text)
    assert daemon.run("built") == SHOWN + ("heredoc\n" if works else "")
    (context / "file").write_text("changed\n")
    build(daemon, "built", context, text)
    shown = SHOWN.replace("from the context", "changed") + ("heredoc\n" if works else "")
    assert daemon.run("built") == shown
    with pytest.raises(AssertionError, match="exit code: 3"):
        build(daemon, "fails", context, f"{text}RUN exit 3\n")
    daemon.clear()
    wait_until(lambda: not snapshotter.layers())


def exported(said: str) -> float:
    """Return how long an export of layers took, in seconds, as BuildKit says it."""
    found = re.search(r"exporting layers (?:([\d.]+)s )?done", said)
    assert found, said
    return float(found[1] or 0)


@pytest.mark.parametrize("snapshotter", ["overlay2"], indirect=True)
def test_exports_are_told_beside_those_of_containerds_own_overlayfs(
    on_snapshotter: OnSnapshotter, context: Path, small: Path, tmp_path: Path, busybox: bytes
) -> None:
    layer = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    layer.symlink("bin/sh", "busybox")
    for number in range(FILES):
        if number % 500 == 0:
            layer.folder(f"many{number // 500}")
        layer.add(f"many{number // 500}/{number}", data=b"x")
    image_archive(tmp_path / "big.tar", "big", [layer.done()], {"Env": ["PATH=/bin"]})
    took = {}
    for name in ("ours", "overlayfs"):
        with on_snapshotter(name) as daemon:
            daemon.docker("load", "--input", str(tmp_path / "big.tar"))
            took[name] = exported(build(daemon, "more", context, "FROM big\nRUN echo > /more\n"))
            daemon.clear()
    print(
        f"export upon {FILES} files: {took['ours']} s, containerd's overlayfs {took['overlayfs']} s"
    )
