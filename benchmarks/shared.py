"""What a shared store is worth: the first container on a node by a pull, and from a store, in one run.

    PYTHONPATH=. tests/with_engines_of trixie .venv/bin/python benchmarks/shared.py
        [--dir DIR | --memory] [--files N] [--average BYTES] [--rounds N] [--nodes N ...] [--json FILE]

The stores are a directory on SeaweedFS, which each node mounts, and a repository of the registry that
has the image, too. Registry and SeaweedFS run on this machine and send 1 Gbit/s to all nodes together.
SeaweedFS compresses what it keeps. A node is a network namespace with a containerd and a snapshotter on
the driver erofs.

*A node*: a pull onto containerd's overlayfs, a pull onto the driver erofs, and from the stores. Printed
are the seconds until all layers are there, until a container prints a line, and until it has read all
files; the bytes that came over the network, and those on the node's disk; the processor time of the
whole machine, with that of the servers. The ways take turns, and all figures are medians.

*Publishing*: the same pull on a node that publishes; *published*: the last layer is in the store.

*Nodes at once*: processes that get the layers of a smaller image and keep them by the driver erofs,
without containerd: when the middle one and the last one had all.

Needs containerd 1.7.24 or later; installs SeaweedFS into ``build`` once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.containerd_beside import used
from benchmarks.ground import add_options, ground

from graphdriver.conformance.plugin import tars
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.opening import open_store
from tests.support.containerd_images import busybox, write_image
from tests.support.kubernetes import node_on
from tests.support.network import Host, network
from tests.support.registry import push, registry
from tests.support.seaweedfs import mounted_weed, seaweedfs
from tests.support.shared_store import links_of
from tests.support.waiting import wait_until

RATE = "1gbit"
LAYERS = 10
SMALLER = "smaller"
"""The image of the nodes at once, and its stores."""

PUBLISHING = ("published to the directory", "published to the registry")
BESIDE = "pull onto overlayfs"
WAYS = (BESIDE, "pull", "fetched from the directory", "fetched from the registry", "in place")
AIMS = {"fetched from the directory": 0.35, "in place": 0.1}
"""At most so many times the seconds of a pull, until the first container prints."""

READ_ALL = "echo first; cat /[1-9]/*/* > /dev/null; echo all; sleep 1000000"
"""Where `make_layers` puts its files."""


def make_layers(files: int, average: int) -> list[bytes]:
    """Return ten layers: a shell, and so many files from empty to twice an average size."""
    # Three random bits in each byte: compressed it has two fifths of its size, as programs have.
    pool = os.urandom(64 << 20).translate(bytes(value & 7 for value in range(256)))
    layers, at = [busybox()], 0
    for layer in range(1, LAYERS):
        entries = [tars.directory(b"%d" % layer)]
        for number in range(files // (LAYERS - 1)):
            if number % 100 == 0:
                entries.append(tars.directory(b"%d/%d" % (layer, number // 100)))
            size = number * 7919 % (2 * average)
            at = at + size if at + 2 * size < len(pool) else 0
            name = b"%d/%d/%d" % (layer, number // 100, number % 100)
            entries.append(tars.file(name, pool[at : at + size]))
        layers.append(tars.tar(*entries))
    return layers


@dataclass
class Figures:
    """What was measured on one node."""

    pulled_s: float = 0
    first_s: float = 0
    read_all_s: float = 0
    received_mb: float = 0
    stored_mb: float = 0
    processor_s: float = 0
    published_s: float = 0


@dataclass(frozen=True)
class Site:
    """What all nodes use.

    Attributes:
        place: the directory for all files.
        registry: its address.
        filer: the address of SeaweedFS.
        hosts: the machines for nodes.
    """

    place: Path
    registry: str
    filer: str
    hosts: Sequence[Host]


def processor() -> float:
    """Return how many seconds this machine's processors have worked."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, words[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def store_on(site: Site, host: Host, way: str, name: str) -> Iterator[str]:
    """Yield the address of a store of this name as a machine sees it; a way's last word is its kind."""
    if way.endswith("registry"):
        yield f"oci+http://{site.registry}/{name}"
        return
    with mounted_weed(site.filer, site.place / f"mnt-{host.address}", host.program) as mount:
        (mount / name / "chains").mkdir(parents=True, exist_ok=True)
        yield str(mount / name)


def run_node(site: Site, host: Host, way: str, name: str, layers: Sequence[bytes]) -> Figures:
    """Run a node; pull, and run a container.

    Args:
        site: where.
        host: the machine.
        way: `BESIDE`, ``pull``, ``published to the …``, ``fetched from the …`` or ``in place``.
        name: the store's.
        layers: those of the image.
    """
    sandbox = f"{site.registry}/sandbox:1"
    folder = site.place / "n"
    found = Figures()
    with contextlib.ExitStack() as held:
        options: list[str] = []
        if not way.startswith("pull"):
            options = ["--shared", held.enter_context(store_on(site, host, way, name))]
        if way.startswith("published"):
            options.append("--publish")
        if way == "in place":
            options.append("--in-place")
        node, snapshotter = held.enter_context(
            node_on(host, folder, "erofs", sandbox, *options, is_class=way == BESIDE)
        )
        pod = node.pod()
        os.sync()
        received, worked, stored = host.received, processor(), used(folder)
        started = time.perf_counter()
        image = node.pull(f"{site.registry}/image:1")
        found.pulled_s = time.perf_counter() - started
        container = pod.run(image, "/bin/sh", "-c", READ_ALL)
        wait_until(lambda: "first" in container.printed)
        found.first_s = time.perf_counter() - started
        if way.startswith("published"):
            expect_stored(options[1], layers)
            found.published_s = time.perf_counter() - started
        else:
            wait_until(lambda: "all" in container.printed)
            found.read_all_s = time.perf_counter() - started
        found.received_mb = (host.received - received) / 1e6
        found.processor_s = processor() - worked
        os.sync()
        found.stored_mb = (used(folder) - stored) / 1e6
        pod.remove()
        for problem in ("is not taken from the store", "was not published", "is away"):
            assert problem not in snapshotter.log.read_text(), snapshotter.log.read_text()
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
    return found


def expect_stored(address: str, layers: Sequence[bytes]) -> None:
    """Wait until all layers of an image are in a store."""
    with contextlib.closing(open_store(address)) as store:
        shared = SharedLayers(store)
        for link in links_of(layers):
            wait_until(lambda: shared.is_there(link))  # noqa: B023


def digests(base: str) -> list[str]:
    """Return the digests of an image's blobs in a registry."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    request = urllib.request.Request(f"{base}/manifests/1", headers={"Accept": kind})
    with urllib.request.urlopen(request) as answer:
        return [layer["digest"] for layer in json.load(answer)["layers"]]


def run_at_once(site: Site, count: int, way: str, layers: Sequence[bytes]) -> dict[str, float]:
    """Let so many processes get an image at once; return when the middle and the last one had it."""
    base = f"http://{site.registry}/v2/{SMALLER}"
    with contextlib.ExitStack() as held:
        homes = Path(held.enter_context(tempfile.TemporaryDirectory(dir=site.place)))
        nodes = []
        for host in site.hosts[:count]:
            if way == "pull":
                address, wanted = base, json.dumps(digests(base))
            else:
                address = held.enter_context(store_on(site, host, way, SMALLER))
                wanted = json.dumps([(one.parent, one.diff_id) for one in links_of(layers)])
            script = [sys.executable, "-m", "benchmarks.one_node"]
            command = [*host.program, *script, str(homes / host.namespace), address]
            node = subprocess.Popen(
                command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            held.callback(node.communicate)
            nodes.append(node)
            assert node.stdin
            node.stdin.write(f"{wanted}\n")
            node.stdin.flush()
        for node in nodes:
            assert node.stdout
            assert node.stdout.readline() == "ready\n"
        received, worked = sum(host.received for host in site.hosts), processor()
        for node in nodes:
            assert node.stdin
            node.stdin.write("\n")
            node.stdin.flush()
        seconds = sorted(float(node.stdout.readline()) for node in nodes if node.stdout)
        return {
            "middle_s": statistics.median(seconds),
            "last_s": seconds[-1],
            "received_mb": (sum(host.received for host in site.hosts) - received) / 1e6,
            "processor_s": processor() - worked,
        }


def fill(site: Site, layers: Sequence[bytes]) -> None:
    """Put the layers of the smaller image into both stores."""
    for way in PUBLISHING:
        with store_on(site, site.hosts[0], way, SMALLER) as address:
            command = [sys.executable, "-m", "graphdriver", "share", "push", "--json"]
            archive = site.place / "smaller.tar"
            work = ["--work", str(site.place)]
            subprocess.run(
                [*command, *work, address, str(archive)], check=True, stdout=subprocess.DEVNULL
            )
            expect_stored(address, layers)


def median(runs: Sequence[Figures]) -> dict[str, float]:
    """Return the medians of all figures."""
    rows = [asdict(run) for run in runs]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def show(row: dict[str, float], title: str) -> None:
    """Print a line of figures."""
    shown = "  ".join(f"{name} {value:8.2f}" for name, value in row.items() if value)
    print(f"{title:28} {shown}", flush=True)


def measure(arguments: argparse.Namespace, site: Site) -> dict[str, object]:
    """Measure all, and print it."""
    layers = make_layers(arguments.files, arguments.average)
    print(f"an image of {sum(map(len, layers)) / 1e6:.0f} MB", flush=True)
    push(site.registry, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
    push(site.registry, "image", layers, compression="gzip")
    host = site.hosts[0]
    done: dict[str, list[Figures]] = defaultdict(list)
    for number in range(arguments.rounds):
        for way in (*PUBLISHING, *WAYS):
            done[way].append(run_node(site, host, way, f"layers{number}", layers))
    nodes = {way: median(runs) for way, runs in done.items()}
    for way, row in nodes.items():
        show(row, way)
    for way in WAYS[1:]:
        ratios = [nodes[way]["first_s"] / nodes[one]["first_s"] for one in WAYS[:2]]
        aim = f" (aim {AIMS[way]})" if way in AIMS else ""
        print(
            f"{way:28} first container after {ratios[0]:.2f} x {BESIDE}{aim}, {ratios[1]:.2f} x pull"
        )
    row, plain = nodes[PUBLISHING[0]], nodes["pull"]
    for name in ("pulled_s", "processor_s"):
        print(f"publishing: {name} {row[name] / plain[name]:.2f} x pull (aim 1.1)")
    del layers

    smaller = make_layers(arguments.files // 3, arguments.average)
    push(site.registry, SMALLER, smaller, compression="gzip")
    write_image(site.place / "smaller.tar", "smaller:1", smaller)
    fill(site, smaller)
    print(f"an image of {sum(map(len, smaller)) / 1e6:.0f} MB", flush=True)
    at_once = {}
    for way in WAYS[1:4]:
        for count in arguments.nodes:
            row = at_once[f"{count}, {way}"] = run_at_once(site, count, way, smaller)
            show(row, f"{count}, {way}")
    return {"nodes": nodes, "at_once": at_once}


def main() -> None:
    """Start all, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--files", type=int, default=20_000, metavar="N")
    parser.add_argument("--average", type=int, default=15_000, metavar="BYTES")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    with (
        ground(arguments) as above,
        tempfile.TemporaryDirectory(prefix="gds-", dir=above) as name,
        network(max(arguments.nodes), RATE) as site,
        registry(Path(name), site.address) as address,
        seaweedfs(Path(name), site.address) as filer,
    ):
        place = Path(name)
        place.chmod(0o711)
        figures = measure(arguments, Site(place, address, filer, site.hosts))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
