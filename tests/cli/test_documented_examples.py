"""What the documentation shows runs as it stands: its Python, its commands, and the names in it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from graphdriver import Client
from graphdriver.cli import main
from tests.support import certificates, documented
from tests.support.command import environment
from tests.support.docker_root import DockerRoot
from tests.support.documented import ROOT, Block, blocks, pages

pytestmark = pytest.mark.root

SHORT = " --only layers"
"""What a run of the kit is cut down to: whole runs are in tests/conformance."""


@dataclass
class Ground:
    """An empty directory in which examples run, and a name that no other plugin has."""

    directory: Path
    name: str = field(default_factory=lambda: f"py-vfs-{secrets.token_hex(4)}")

    def environment(self) -> dict[str, str]:
        programs = Path(sys.executable).parent
        return environment(path=str(self.directory)) | {
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
        }

    def run(self, command: str, cwd: Path | None = None) -> str:
        """Run a command of the shell to its end, and return what it wrote."""
        done = subprocess.run(
            ["sh", "-euc", command],
            cwd=cwd or self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self, command: str, is_ready: Callable[[], bool]) -> Iterator[None]:
        """Run a command in the background for as long as the block lasts."""
        log = self.directory / f"{command.split()[1]}.log"
        with (
            open(log, "wb") as output,
            subprocess.Popen(
                ["sh", "-euc", f"exec {command}"],
                cwd=self.directory,
                env=self.environment(),
                stdout=output,
                stderr=output,
            ) as process,
        ):
            try:
                deadline = time.monotonic() + 60
                while not is_ready():
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
                yield
            finally:
                process.terminate()

    def serves(self) -> contextlib.AbstractContextManager[None]:
        """Serve vfs under the name."""
        return self.running(f"graphdriver serve vfs --name {self.name}", self.answers(self.name))

    def answers(self, plugin: str) -> Callable[[], bool]:
        """Return what tells whether a plugin answers."""

        def is_ready() -> bool:
            with contextlib.suppress(Exception), Client(plugin, timeout=10) as client:
                return "GraphDriver" in client.activate()
            return False

        return is_ready


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


# --- how each example is run ----------------------------------------------------------------------


def make_targets(text: str, ground: Ground) -> None:
    ground.run(re.sub(r"^make ", "make --dry-run ", text, flags=re.MULTILINE), cwd=ROOT)


def examines_the_example(text: str, ground: Ground) -> None:
    assert " 0 failed" in ground.run(text.strip() + SHORT, cwd=ROOT)


def examines_a_program(text: str, ground: Ground) -> None:
    program = ground.directory / "my-plugin"
    program.write_text(f'#!/bin/sh\nexec python {ROOT}/examples/plain_folders.py "$2"\n')
    program.chmod(0o755)
    assert " 0 failed" in ground.run(text.strip() + SHORT)


def examines_by_pytest(text: str, ground: Ground) -> None:
    driver = (
        "from graphdriver.drivers.vfs.driver import VfsDriver\nclass MyDriver(VfsDriver): pass\n"
    )
    (ground.directory / "my_driver.py").write_text(driver)
    (ground.directory / "test_it.py").write_text(text)
    said = ground.run("python -m pytest -q -p no:cacheprovider -k layers test_it.py")
    assert re.search(r"^[1-9]\d* passed", said, re.MULTILINE), said
    assert "skipped" not in said


def examines_a_snapshotter(text: str, ground: Ground) -> None:
    there = str(ground.directory)
    text = text.replace("/run/s", there).replace("/var/lib/s", f"{there}/root")
    serving, examining = text.splitlines()
    with ground.running(serving, lambda: os.path.exists(f"{there}/s.sock")):
        ground.run(f"{examining} --only metadata")


def serves_containerd(text: str, ground: Ground) -> None:
    _, *commands = text.replace("/run/gd", str(ground.directory)).splitlines()  # one installs
    for command in commands:
        root = f" --root {ground.directory}/root-{len(command)}"
        place = ground.directory / "mine.sock"
        with ground.running(command.partition("#")[0] + root, place.exists):
            pass


def records(text: str, ground: Ground) -> None:
    taped = f"taped-{ground.name}"
    recording, _ = text.replace("my-plugin", ground.name).replace("taped", taped).splitlines()
    with ground.serves(), ground.running(recording, ground.answers(taped)):
        pass
    assert "Activate  ->  200" in (ground.directory / "record.log").read_text()


def uses_the_client(text: str, ground: Ground) -> None:
    home = str(ground.directory / "home")
    (ground.directory / "it.py").write_text(
        text.replace("py-vfs", ground.name).replace("/var/lib/graphdriver-test", home)
    )
    with ground.serves():
        size, refusal = ground.run("python it.py").splitlines()
    assert int(size) % 512 == 0
    assert refusal == "get nothing: the layer does not exist"


def serves_what_was_ported(text: str, ground: Ground) -> None:
    (ground.directory / "it.py").write_text(text.replace('"directories"', f'"{ground.name}"'))
    with (
        ground.running("python it.py", ground.answers(ground.name)),
        Client(ground.name, timeout=60) as client,
    ):
        client.init(str(ground.directory / "home"))
        client.create("base")
        (Path(client.get("base")) / "file").write_text("text")
        client.put("base")
        client.create("top", "base")
        assert (Path(client.get("top")) / "file").read_text() == "text"
        assert Path(client.get("top")).stat().st_mode & 0o777 == 0o755
        client.remove("top")
        assert not client.exists("top")


def calls_a_plugin(text: str, ground: Ground) -> None:
    with ground.serves():
        with Client(ground.name, timeout=60) as client:
            client.init(str(ground.directory / "home"))
        said = ground.run(text.replace("py-vfs", ground.name)).splitlines()
        assert said[-1] == '{"Exists": false}'


def lists_and_serves_drivers(text: str, ground: Ground) -> None:
    listing, serving = (line.partition("#")[0] for line in text.splitlines())
    assert "vfs" in ground.run(listing)
    command = serving.strip().replace("py-vfs", ground.name)
    with ground.running(command, ground.answers(ground.name)):
        pass


def lists_and_serves_erofs(text: str, ground: Ground) -> None:
    listing, serving, _ = (line.partition("#")[0] for line in text.splitlines())
    assert "erofs" in ground.run(listing)
    command = f"{serving.strip()} --name {ground.name}"
    with ground.running(command, ground.answers(ground.name)):
        pass


def serves_tls(text: str, ground: Ground) -> None:
    made = certificates.make(ground.directory / "tls")
    for file in made.folder.iterdir():
        os.link(file, ground.directory / file.name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = text.strip().replace("2377", str(port)) + f" --name {ground.name}"
    with ground.running(command, ground.answers(ground.name)):
        pass


def looks_at_a_plugin(text: str, ground: Ground) -> None:
    with ground.serves():
        with Client(ground.name, timeout=60) as client:
            client.init(str(ground.directory / "home"))
            client.create("base")
        ground.run(text.replace("py-overlay2", ground.name).replace("debian:12", "base"))
    assert (ground.directory / "layers.html").exists()


def checks_a_home(text: str, ground: Ground) -> None:
    home = DockerRoot(ground.directory / "root").home
    database = home.parent / "volumes" / "metadata.db"  # a daemon of this data root would lock it
    database.parent.mkdir()
    database.touch()
    with ground.serves(), Client(ground.name, timeout=60) as client:
        client.init(str(home))
        client.cleanup()
    doctor, *lines = text.replace("/var/lib/docker/py-overlay2", str(home)).splitlines()
    runs_doctor(doctor, ground)
    ground.run("\n".join(lines))


def runs_doctor(text: str, ground: Ground) -> None:
    home = DockerRoot(ground.directory / "one").home
    with ground.serves():
        with Client(ground.name, timeout=60) as client:
            client.init(str(home))
        text = text.replace("py-erofs", ground.name)
        text = text.replace("/var/lib/containerd/io.containerd.snapshotter.v1.mine", str(home))
        for line in text.splitlines():
            # What it finds on this machine is another matter.
            ground.run(f"{line.partition('#')[0]} || [ $? -ge 13 ]")


def serves_metrics(text: str, ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    _, command, page = text.replace("9123", str(port)).splitlines()  # the first one installs
    named = f"{command.replace('overlay2', 'vfs')} --name {ground.name}"
    with (
        ground.running(named, ground.answers(ground.name)),
        urllib.request.urlopen(page.split()[1], timeout=60) as answer,
    ):
        assert b"graphdriver_" in answer.read()


def declares_needs(text: str, ground: Ground) -> None:
    names = "from graphdriver import Needs, ProtoDriver\n"
    (ground.directory / "it.py").write_text(f"{names}{text}print(Mine.needs.capabilities)\n")
    assert "CAP_NET_ADMIN" in ground.run("python it.py")


RUN: dict[str, Callable[[str, Ground], None]] = {
    "make run     # makes the environment and serves the best driver that works here": make_targets,
    "make test                     # everything; as root on Debian 12 with docker.io installed, real"
    " daemons too": make_targets,
    'graphdriver conform --exec "python examples/plain_folders.py {socket}"': examines_the_example,
    'graphdriver conform --exec "./my-plugin --listen {socket}"': examines_a_program,
    "import pytest": examines_by_pytest,
    "graphdriver snapshotter overlay2 --address /run/s/s.sock --root /var/lib/s": (
        examines_a_snapshotter
    ),
    "pip install 'graphdriver[containerd]'": serves_containerd,
    "graphdriver record --plugin my-plugin taped": records,
    "from graphdriver import Client, LayerNotFoundError": uses_the_client,
    "import os": serves_what_was_ported,
    "graphdriver call --plugin py-vfs Status": calls_a_plugin,
    "graphdriver serve vfs --tcp 127.0.0.1:2377 \\": serves_tls,
    "graphdriver drivers                                    # which drivers work here, and why"
    " others do not": lists_and_serves_drivers,
    "graphdriver drivers                   # does it work here?": lists_and_serves_erofs,
    "graphdriver status py-overlay2                       # is it well, and what has it done?": (
        looks_at_a_plugin
    ),
    "graphdriver doctor                         # the machine, and the homes in /var/lib/docker": (
        runs_doctor
    ),
    "pip install 'graphdriver[metrics]'": serves_metrics,
    "class Mine(ProtoDriver):": declares_needs,
    "graphdriver doctor                                   # is something wrong with this machine?": (
        checks_a_home
    ),
}
"""What runs an example, by its first line."""

NOT_RUN = {
    ("docs/performance.md", "PYTHONPATH=. .venv/bin/python benchmarks/layers.py overlay2"),
    ("docs/tutorial/first-driver.md", "apt install docker.io busybox-static python3-venv"),
}
"""The examples that nothing runs, by page and first line; a comment in the page says why."""


def examples() -> list[Block]:
    return [one for one in blocks() if one.language in ("python", "sh")]


def test_every_example_is_run_somewhere_or_says_why_not() -> None:
    here = [one.first_line for one in examples() if not (one.run_by or one.not_run)]
    assert sorted(here) == sorted(RUN)
    elsewhere = {(one.page, one.run_by) for one in examples() if one.run_by}
    assert not {(page, file) for page, file in elsewhere if not (ROOT / file).is_file()}
    assert {(one.page, one.first_line) for one in examples() if one.not_run} == NOT_RUN


def test_a_block_says_where_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "<!-- run by tests/a.py -->\n```sh\na\n```\n\n"
        "<!-- not run: why -->\n```sh\nb\n```\n"
        "```sh\nc\n```\n"
    )
    monkeypatch.setattr(documented, "pages", lambda: {"page": text})
    assert [(one.text, one.run_by, one.not_run) for one in documented.blocks()] == [
        ("a\n", "tests/a.py", ""),
        ("b\n", "", "why"),
        ("c\n", "", ""),
    ]


@pytest.mark.parametrize(
    "example",
    [one for one in examples() if not (one.run_by or one.not_run)],
    ids=lambda one: f"{one.page}: {one.first_line[:40]}",
)
def test_an_example_runs(example: Block, ground: Ground) -> None:
    RUN[example.first_line](example.text, ground)


# --- what commands print --------------------------------------------------------------------------

SESSIONS = [
    (one.page, command, output)
    for one in blocks()
    # test_how_to.py and test_first_driver.py compare what these print.
    if not one.page.startswith(("docs/how-to/", "docs/tutorial/"))
    for command, output in re.findall(
        r"^\$ (graphdriver (?:status|layers|inspect|du) .*)\n((?:(?!\$ ).*\n)+)",
        one.text,
        re.MULTILINE,
    )
]
"""Pages, commands that look at a plugin, and what they print there."""


def columns(output: str) -> list[list[str]]:
    """Return the heads of the tables in an output."""
    words_of_lines = (line.split() for line in output.splitlines())
    return [line for line in words_of_lines if len(line) > 2 and all(map(str.isupper, line))]


def labels(output: str) -> list[str]:
    """Return the labels of the lines that have one, as ``driver   overlay2 for docker``."""
    return re.findall(r"^([a-z]+(?: [a-z]+)?) {2,}\S", output, re.MULTILINE)


@pytest.mark.parametrize(("page", "command", "output"), SESSIONS)
def test_an_output_has_the_columns_and_labels_of_a_real_one(
    page: str, command: str, output: str, ground: Ground
) -> None:
    docker = DockerRoot(ground.directory / "root")
    with ground.serves(), Client(ground.name, timeout=60) as client:
        client.init(str(docker.home))
        client.create("shop-web")
        client.get("shop-web")
        real = ground.run(command.replace("py-overlay2", ground.name))
    assert columns(real) == columns(output), page
    assert {*labels(real)} <= {*labels(output)}, page


# --- commands and names ---------------------------------------------------------------------------


def commands() -> list[str]:
    """Return all commands of ours that are shown: in blocks, in lines of text, and by ``--help``."""
    helps = [command.examples for command in main.COMMANDS] + [main._DESCRIPTION]
    texts = [one.text.replace("\\\n", " ") for one in blocks()] + helps
    found = [line for text in texts for line in typed(text) if line.startswith("graphdriver ")]
    for text in pages().values():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        found += re.findall(r"`(graphdriver [^`…]+)`", prose)
    return sorted(set(found))


def typed(text: str) -> Sequence[str]:
    """Return the lines of a block that a user types: all, unless some have a prompt."""
    lines = [line.strip() for line in text.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines


def words(command: str) -> Sequence[str]:
    """Return a command's arguments: without a comment, an explanation beside it, or a redirection."""
    command = re.split(r"\s#|\s[<>|]\s|\s{2,}(?=[^-\s])", command)[0]
    return shlex.split(command)[1:]


@pytest.mark.parametrize("command", commands())
def test_a_command_that_is_shown_is_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(command)
    try:
        main.make_parser().parse_args(given)
    except SystemExit as end:
        said = capsys.readouterr().err
        # A line of text may name a command or an option alone.
        is_short = "the following arguments are required" in said or "is required" in said
        assert end.code == 0 or is_short, said


def test_what_is_no_command_would_be_seen() -> None:
    for command in ("graphdriver fly", "graphdriver serve --flying", "graphdriver call --by x"):
        with pytest.raises(SystemExit) as caught:
            main.make_parser().parse_args(words(command))
        assert caught.value.code == 2
