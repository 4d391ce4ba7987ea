"""The steps that both daemons are taken through, and what each of them shows.

The image is made of tars that are the same on both sides, so IDs and digests of what is loaded are
the same, too. What no two runs share is replaced by a word: IDs of containers, and of what is made
from them, and times.
"""

from __future__ import annotations

import json
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.images import LayerTar, chain_id, describe, image_archive, read_saved

ODD = "odd/sp ace", "odd/new\nline", "odd/ünï", "odd/-dash", "odd/'quote\"", "odd/" + "n" * 255
NOT_UTF8 = b"odd/\xff\xfe".decode("utf-8", "surrogateescape")
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""``cap_net_bind_service=ep`` as the kernel keeps it (capability.h, VFS_CAP_REVISION_2)."""

APPLETS = (
    "chmod",
    "chown",
    "ln",
    "mkdir",
    "mkfifo",
    "mknod",
    "mv",
    "rm",
    "sh",
    "touch",
    "truncate",
)

CHANGES = r"""
set -e
umask 022
# files
echo changed >> /files/plain
chmod 4750 /files/set-id
chown 7:8 /files/owned
touch -d '2001-02-03 04:05:06' /files/touched
rm /files/gone
truncate -s 3000000 /files/sparse-too
mv /files/moved /files/moved-on
rm /files/replaced && mkdir /files/replaced && echo inside > /files/replaced/inside
chmod 640 /files/labelled
chmod 644 /files/capable && echo more >> /files/capable
# hard links
ln /hard/one /hard/four
echo by-link >> /hard/two
echo both > /hard/new-1 && ln /hard/new-1 /hard/new-2
# symbolic links
ln -s nowhere /links/dangling
ln -sfn ../files /links/turned
# folders
rm -r /folders/gone
rm -r /folders/becomes-file && echo file > /folders/becomes-file
rm -r /folders/becomes-link && ln -s .. /folders/becomes-link
rm -r /folders/made-anew && mkdir /folders/made-anew && echo 2 > /folders/made-anew/second
rm -r /folders/same-again && mkdir /folders/same-again && echo 1 > /folders/same-again/first
chmod 1777 /folders/chmodded
mkdir -p /folders/deep/a/b/c/d && echo d > /folders/deep/a/b/c/d/e
: > /folders/only-entries/new && rm /folders/only-entries/new
# special files
mknod /special/char c 1 3
mknod /special/block b 7 0
mkfifo /special/new-fifo
rm /special/fifo
rm /special/null && mkfifo /special/null
# odd names
: > '/odd/new "name"'
: > "$(printf '/odd/new\nline too')"
: > "$(printf '/odd/new\374')"
rm '/odd/-dash'
mkdir '/odd/.wh-not' && : > '/odd/.wh-not/.w'
"""


def make_image(folder: Path, busybox: bytes) -> Path:
    """Write the image that the steps begin with: three layers, each in another dialect of tar."""
    first = LayerTar().folder("bin").add("bin/busybox", data=busybox, mode=0o755)
    for applet in APPLETS:
        first.symlink(f"bin/{applet}", "busybox")
    first.folder("files").folder("hard").folder("links").folder("folders", mode=0o2775)
    first.folder("special").folder("odd", owner=(11, 12)).folder("tmp", mode=0o1777)
    for name in ("plain", "set-id", "owned", "touched", "gone", "moved", "replaced", "whited"):
        first.add(f"files/{name}", data=f"{name}\n".encode() * 100)
    first.add("files/set-id-below", data=b"#!", mode=0o6755, owner=(3, 4))
    first.add("files/capable", data=b"c" * 5000, xattrs={"security.capability": CAPABILITY})
    first.add("files/able-below", data=b"d", xattrs={"security.capability": CAPABILITY})
    first.add("files/labelled", data=b"l", xattrs={"user.label": b"\xc3\xa9 of ours"})
    first.add("files/precise", data=b"p", mtime=1_500_000_000.123456)
    first.add("files/big-owner", data=b"o", owner=(3_000_000, 4_000_000))
    first.add("hard/one", data=b"linked\n" * 50).hard_link("hard/two", "hard/one")
    first.hard_link("hard/three", "/hard/one")
    first.symlink("links/absolute", "/files/plain").symlink("links/turned", "elsewhere")
    first.symlink("links/up", "../../../../etc").symlink("links/long", "x" * 300)
    first.add("special/fifo", type=tarfile.FIFOTYPE)
    first.add("special/null", type=tarfile.CHRTYPE, device=(1, 3), mode=0o666)
    first.add("special/loop", type=tarfile.BLKTYPE, device=(7, 1), mode=0o660, owner=(0, 6))
    for name in ODD:
        first.add(name, data=b"odd")

    second = LayerTar(tarfile.GNU_FORMAT).folder("folders", mode=0o2775)
    for name in ("gone", "becomes-file", "becomes-link", "made-anew", "same-again", "opaque"):
        second.folder(f"folders/{name}").add(f"folders/{name}/first", data=b"1\n")
    second.folder("folders/whited/below").add("folders/whited/below/file")
    second.folder("folders/chmodded").folder("folders/only-entries")
    second.add("files/.wh.whited").add(NOT_UTF8, data=b"bytes")
    second.add("parents/not/in/the/tar", data=b"x").add("long/" + "d" * 120 + "/" + "f" * 120)

    third = LayerTar(tarfile.USTAR_FORMAT).add("folders/.wh.whited").folder("folders/opaque")
    third.add("folders/opaque/.wh..wh..opq").add("folders/opaque/second", data=b"2\n")
    third.add("files/sparse-too", data=b"s" * 10)

    path = folder / "image.tar"
    image_archive(
        path,
        "odd:1",
        [first.done(), second.done(), third.done()],
        {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
    )
    return path


class Steps:
    """Takes one daemon through all steps.

    Args:
        daemon: which one.
        folder: for files on the way.
        archive: the image that `make_image` wrote.
    """

    def __init__(self, daemon: Daemon, folder: Path, archive: Path) -> None:
        self._daemon = daemon
        self._folder = folder
        self._archive = archive
        self._began = time.time() - 2
        self._words: dict[str, str] = {}

    def take(self) -> dict[str, list[str]]:
        """Take every step; return, by its name, the lines that it showed."""
        shown: dict[str, list[str]] = {}
        for name, step in self._steps().items():
            try:
                lines = step()
            except Exception as error:
                error.add_note(f"in the step {name!r} on {self._daemon.storage_driver}")
                raise
            shown[name] = [self._normal(line) for line in lines]
        return shown

    def _steps(self) -> dict[str, Callable[[], list[str]]]:
        docker = self._lines
        return {
            "load": lambda: docker("load", "--input", str(self._archive)),
            "images": lambda: docker("images", "--no-trunc", "--digests"),
            "history": lambda: docker("history", "--no-trunc", "odd:1"),
            "inspect of an image": lambda: self._inspect("odd:1"),
            "save": self._save,
            "a container": self._change,
            "diff": lambda: sorted(docker("diff", "one")),
            "ps -s": lambda: docker("ps", "-as", "--format", "{{.Names}} {{.Image}} {{.Size}}"),
            "inspect of a container": lambda: self._inspect("one", "--size"),
            "export": lambda: self._export("one"),
            "cp of a folder out": lambda: self._copy_out("/folders/."),
            "cp of a file out": lambda: self._copy_out("/files/capable"),
            "cp of a link out": lambda: self._copy_out("/links/absolute"),
            "cp of hard links out": lambda: self._copy_out("/hard"),
            "cp of a tar in": self._copy_tar_in,
            "cp of a file in": self._copy_file_in,
            "diff after cp": lambda: sorted(docker("diff", "one")),
            "start again": lambda: self._failure("start", "--attach", "one"),
            "commit": self._commit,
            "inspect of the commit": lambda: self._inspect("two:1"),
            "history of the commit": lambda: docker(
                "history", "--format", "{{.Size}} {{.Comment}}", "two:1"
            ),
            "export of the commit": self._export_of_the_commit,
            "system df": lambda: docker("system", "df", "-v"),
            "info": self._info,
            "rmi in use": lambda: self._failure("rmi", "two:1"),
            "rm": lambda: docker("rm", "--volumes", "two"),
            "rmi": lambda: docker("rmi", "--no-prune", "two:1"),
            "system prune": lambda: sorted(docker("system", "prune", "--force")),
            "prune of all": lambda: sorted(docker("system", "prune", "--all", "--force")),
            "nothing is left": lambda: docker("ps", "-aq") + docker("images", "-aq"),
        }

    def _lines(self, *arguments: str, input: bytes | None = None) -> list[str]:
        return self._daemon.docker(*arguments, input=input).splitlines()

    def _tar(self, *arguments: str) -> list[str]:
        path = self._folder / "out.tar"
        self._daemon.docker_to_file(path, *arguments)
        return describe(path.read_bytes(), self._began)

    def _save(self) -> list[str]:
        path = self._folder / "saved.tar"
        self._daemon.docker_to_file(path, "save", "odd:1")
        with tarfile.open(path) as saved:
            lines = []
            for member in saved:
                file = saved.extractfile(member)
                lines.append(f"{member.name} {member.size}")
                if member.name.endswith(".tar") and file:
                    lines += describe(file.read())
        return lines

    def _change(self) -> list[str]:
        began = ["create", "--name=one", "--hostname=one", "--network=none", "--tty=false"]
        self._container("one", *began, "odd:1", "sh", "-c", CHANGES)
        self._lines("start", "--attach", "one")
        return []

    def _container(self, name: str, *arguments: str) -> None:
        (id,) = self._lines(*arguments)
        self._word(id, f"CONTAINER-{name}")

    def _word(self, id: str, word: str) -> None:
        digits = id.removeprefix("sha256:")
        self._words |= {digits: word, digits[:12]: f"{word}-short"}

    def _export(self, container: str) -> list[str]:
        return self._tar("export", container)

    def _copy_out(self, path: str) -> list[str]:
        return self._tar("cp", f"one:{path}", "-")

    def _copy_tar_in(self) -> list[str]:
        tar = LayerTar().folder("in").add("in/file", data=b"in", mode=0o4711, owner=(21, 22))
        tar.hard_link("in/hard", "in/file").symlink("in/link", "file")
        tar.add("in/able", data=b"a", xattrs={"security.capability": CAPABILITY})
        self._daemon.docker("cp", "--archive", "-", "one:/folders", input=tar.done())
        return self._copy_out("/folders/in")

    def _copy_file_in(self) -> list[str]:
        path = self._folder / "to-copy"
        path.write_bytes(b"copied\n" * 1000)
        self._daemon.docker("cp", str(path), "one:/files/plain")
        return self._copy_out("/files/plain")

    def _commit(self) -> list[str]:
        # The second start of the script failed at its first step that had been done already; a
        # container whose last word was an error is committed like any other.
        (id,) = self._lines("commit", "--author=us", "--message=changed", "one", "two:1")
        self._word(id, "COMMITTED")
        path = self._folder / "committed.tar"
        self._daemon.docker_to_file(path, "save", "two:1")
        diff_ids = read_saved(path).diff_ids
        self._word(diff_ids[-1], "DIFF-ID-OF-THE-COMMIT")
        self._word(chain_id(diff_ids), "CHAIN-ID-OF-THE-COMMIT")
        with tarfile.open(path) as saved:
            manifest = saved.extractfile("manifest.json")
            assert manifest
            last = saved.extractfile(json.load(manifest)[0]["Layers"][-1])
            assert last
            return describe(last.read(), self._began)

    def _export_of_the_commit(self) -> list[str]:
        self._container("two", "create", "--name=two", "--network=none", "two:1")
        return self._export("two")

    def _inspect(self, what: str, *options: str) -> list[str]:
        (told,) = json.loads(self._daemon.docker("inspect", *options, what))
        told.pop("NetworkSettings", None)
        return _flat(told)

    def _info(self) -> list[str]:
        told = json.loads(self._daemon.docker("info", "--format", "{{json .}}"))
        for of_the_daemon in ("ID", "DockerRootDir", "SystemTime", "NFd", "NGoroutines"):
            del told[of_the_daemon]
        return _flat(told)

    def _failure(self, *arguments: str) -> list[str]:
        done = self._daemon.try_docker(*arguments)
        return [f"exit code {done.returncode}", *done.stderr.decode().splitlines()]

    def _normal(self, line: str) -> str:
        for id, word in self._words.items():
            line = line.replace(id, word)
        line = line.replace(str(self._daemon.folder), "FOLDER")
        layer = re.escape(f"/{self._daemon.storage_driver}/") + "[0-9a-f]{64}"
        line = re.sub(layer, "/DRIVER/LAYER", line)
        line = re.sub(r"202[1-9]-\d\d-\d\dT[\d:.]+Z", "TIME", line)
        line = re.sub(r"\b(Less than |About )?(an?|\d+) (second|minute)s? ago", "AGO", line)
        line = re.sub(r"  +", "  ", line)
        return re.sub(r"(?<=[ =:])202[1-9]-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \w+", "TIME", line)


def _flat(told: object, path: str = "") -> list[str]:
    """Return one line for each leaf of what JSON told."""
    if isinstance(told, dict) and told:
        return [line for key in sorted(told) for line in _flat(told[key], f"{path}.{key}")]
    if isinstance(told, list) and told:
        return [line for item in told for line in _flat(item, f"{path}[]")]
    return [f"{path} = {json.dumps(told)}"]
