"""``graphdriver doctor`` beside a real containerd, and what it makes of something that is none."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from graphdriver.containerd.daemon_client import ask_containerd
from graphdriver.errors import BadAnswerError, UnreachableError
from tests.support.command import graphdriver
from tests.support.containerd import Containerd
from tests.support.snapshotter import Snapshotter


@pytest.mark.root
@pytest.mark.docker
def test_containerd_tells_its_version_and_whether_it_has_the_snapshotter(folder: Path) -> None:
    root = folder / "io.containerd.snapshotter.v1.ours"
    with Snapshotter(folder, "vfs", root=root) as one, Containerd(folder, one.address).running():
        answer = ask_containerd(f"{folder}/c.sock")
        assert answer.version[:1] in {"1", "2"}
        assert answer.snapshotters >= {"ours", "overlayfs", "native"}

        words = ["doctor", "--home", str(root), "--containerd-socket", f"{folder}/c.sock", "--json"]
        found = json.loads(graphdriver(*words).stdout)["findings"]
        texts = {one["code"]: one["text"] for one in found if one["check"] != "sockets"}
        assert texts["containerd"].startswith(f"containerd {answer.version} with the snapshotters ")
        assert texts["home"].startswith("vfs for containerd on ")
        assert not {"unknown-snapshotter", "daemon", "no-daemon", "unusable-home"} & set(texts)


def test_what_does_not_speak_grpc_or_is_not_there_is_unreachable(folder: Path) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        ask_containerd(f"{folder}/none", 0.5)


@pytest.mark.parametrize("answer", [b"\x0a\xff", b"\x0a\x01\xff", b"not a message"])
def test_what_answers_something_else_is_no_containerd(folder: Path, answer: bytes) -> None:
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: answer
    )
    service = grpc.method_handlers_generic_handler(
        "containerd.services.version.v1.Version", {"Version": handler}
    )
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"unix:{folder}/c.sock")
        server.start()
        try:
            with pytest.raises(BadAnswerError, match="no message of containerd's"):
                ask_containerd(f"{folder}/c.sock")
        finally:
            server.stop(0).wait()
