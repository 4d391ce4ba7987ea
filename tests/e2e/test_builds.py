from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.images import MADE_AT, describe, read_saved

DOCKERFILE = r"""
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY tree /tree

FROM base AS made
RUN mkdir -p /out/kept /out/replaced /out/emptied/below \
    && echo kept > /out/kept/file \
    && echo old > /out/replaced/file \
    && echo deleted > /out/deleted \
    && echo deleted > /out/emptied/below/file \
    && ln /out/kept/file /out/kept/hard-link \
    && chown 5:6 /out/kept/file \
    && chmod 4755 /out/kept/file
RUN rm /out/deleted
RUN rm -r /out/replaced && echo a file now > /out/replaced
RUN rm -r /out/emptied && mkdir /out/emptied && echo new > /out/emptied/new
RUN rm -r /tree/folder && ln -s file /tree/folder && echo more >> /tree/file

FROM base
COPY --from=made /out /result
COPY --from=made /tree /tree-too
ENV HOME=/
RUN rm -r /tree
CMD ["find", "/result", "/tree-too", \
     "-type", "d", "-exec", "stat", "-c", "%A %u:%g %N", "{}", ";", \
     "-o", "-exec", "stat", "-c", "%A %u:%g %h %N", "{}", ";"]
"""

SHOWN = """\
-rw-r--r-- 0:0 1 /result/emptied/new
-rw-r--r-- 0:0 1 /result/replaced
-rw-r--r-- 0:0 1 /tree-too/file
-rw-r--r-- 0:0 1 /tree-too/sp ace
-rwsr-xr-x 5:6 2 /result/kept/file
-rwsr-xr-x 5:6 2 /result/kept/hard-link
drwxr-xr-x 0:0 /result/emptied
drwxr-xr-x 0:0 /result/kept
drwxr-xr-x 0:0 /tree-too
drwxr-xr-x 0:0 /result
lrwxrwxrwx 0:0 1 '/tree-too/folder' -> 'file'
"""

BUILDERS = {"classic": {}, "buildkit": {"DOCKER_BUILDKIT": "1"}}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "busybox").write_bytes(busybox)
    (folder / "busybox").chmod(0o755)
    (folder / "tree" / "folder").mkdir(parents=True)
    (folder / "tree" / "file").write_text("file\n")
    (folder / "tree" / "sp ace").write_text("odd\n")
    (folder / "tree" / "folder" / "inside").write_text("inside\n")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.name == "busybox" else 0o644)
        os.utime(path, (MADE_AT, MADE_AT))
    return folder


def build(daemon: Daemon, builder: str, tag: str, context: Path) -> None:
    daemon.docker(
        "build", "--network=none", "--no-cache", f"--tag={tag}", str(context), env=BUILDERS[builder]
    )


def built_files(daemon: Daemon, image: str, began: float, folder: Path) -> list[str]:
    daemon.docker("create", "--name=exported", "--network=none", image)
    path = folder / "export.tar"
    daemon.docker_to_file(path, "export", "exported")
    daemon.docker("rm", "exported")
    return describe(path.read_bytes(), began)


def identity(daemon: Daemon, image: str) -> tuple[str, list[str]]:
    (told,) = json.loads(daemon.docker("inspect", image))
    return told["Id"], told["RootFS"]["Layers"]


def check(
    ours: Daemon,
    theirs: Daemon,
    builder: str,
    context: Path,
    folder: Path,
    lost: Sequence[str] = (),
) -> None:
    """Build, save, load, and build on Docker's own driver, which misses that some were deleted."""
    began = time.time() - 2
    image = f"built-{builder}"
    build(ours, builder, image, context)
    before = identity(ours, image)
    assert sorted(ours.run(image).splitlines()) == sorted(SHOWN.splitlines())

    archive = folder / "saved.tar"
    ours.docker_to_file(archive, "save", image)
    saved = read_saved(archive)
    assert (saved.id, saved.diff_ids) == before
    assert saved.found_diff_ids == saved.diff_ids, "the layers' bytes are not those of the build"
    files = built_files(ours, image, began, folder)

    ours.clear()
    assert ours.docker("images", "--all", "--quiet") == ""
    ours.docker("load", "--input", str(archive))
    assert identity(ours, image) == before
    assert sorted(ours.run(image).splitlines()) == sorted(SHOWN.splitlines())
    assert built_files(ours, image, began, folder) == files

    again = folder / "saved-again.tar"
    ours.docker_to_file(again, "save", image)
    assert read_saved(again) == saved

    theirs.docker("load", "--input", str(archive))
    assert identity(theirs, image) == before
    assert built_files(theirs, image, began, folder) == files
    theirs.clear()
    build(theirs, builder, image, context)
    theirs_files = built_files(theirs, image, began, folder)
    kept = [line for line in theirs_files if line.split("'")[1] in lost]
    assert len(kept) == len(lost)
    assert [line for line in theirs_files if line not in kept] == files


@pytest.mark.reaches("Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Diff", "Remove")
def test_what_the_classic_builder_made_comes_back_the_same_from_save_and_load(
    ours: Daemon, theirs: Daemon, driver: str, context: Path, tmp_path: Path
) -> None:
    below = ("result/emptied/below", "result/emptied/below/file")
    lost = below if driver == "fuse-overlayfs" else ()
    check(ours, theirs, "classic", context, tmp_path, lost)


@pytest.mark.reaches("Create", "ApplyDiff", "Get", "Put", "Diff", "DiffSize", "Remove")
def test_what_buildkit_made_comes_back_the_same_from_save_and_load(
    ours: Daemon, theirs: Daemon, context: Path, tmp_path: Path
) -> None:
    check(ours, theirs, "buildkit", context, tmp_path)


@pytest.mark.parametrize("driver", ["overlay2", "erofs"], indirect=True)
@pytest.mark.reaches("Create", "ApplyDiff", "Get", "Put", "Diff")
def test_a_squashed_build_has_fewer_layers_and_the_same_files(
    ours: Daemon, context: Path, tmp_path: Path
) -> None:
    """The daemon asks for the Diff of a layer against another than its parent."""
    began = time.time() - 2
    build(ours, "classic", "built", context)
    squash = ["build", "--squash", "--network=none", "--tag=squashed", str(context)]
    ours.docker(*squash, env=BUILDERS["classic"])
    assert len(identity(ours, "squashed")[1]) < len(identity(ours, "built")[1])
    assert built_files(ours, "squashed", began, tmp_path) == built_files(
        ours, "built", began, tmp_path
    )
    archive = tmp_path / "saved.tar"
    ours.docker_to_file(archive, "save", "squashed")
    saved = read_saved(archive)
    assert (saved.id, saved.diff_ids) == identity(ours, "squashed")
    assert saved.found_diff_ids == saved.diff_ids
