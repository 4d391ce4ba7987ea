"""A plugin of another author: it answers Docker's calls, and nothing else."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

ANSWERS: Mapping[str, object] = {
    "/Plugin.Activate": {"Implements": ["GraphDriver"]},
    "/GraphDriver.Status": {"Status": [["Backing", "tape\x1b[2J"], ["Reels", "7"]]},
    "/GraphDriver.Exists": {"Exists": True},
    "/GraphDriver.GetMetadata": {"Metadata": {"Reel": "3"}},
    "/GraphDriver.Capabilities": {"Capabilities": {"ReproducesExactDiffs": False}},
}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: ClassVar[Mapping[str, object]] = ANSWERS

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = self.answers.get(self.path)
        self._answer(404 if found is None else 200, {"Err": "what?"} if found is None else found)

    def do_GET(self) -> None:
        self._answer(404, {"Err": "nobody asks me that"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "a unix socket"


@contextlib.contextmanager
def foreign_plugin(path: Path, answers: Mapping[str, object] = ANSWERS) -> Iterator[str]:
    """Run one on a unix socket for the length of a ``with`` block; return the socket's path."""
    handler = type("Handler", (_Handler,), {"answers": answers})
    with socketserver.ThreadingUnixStreamServer(str(path), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield str(path)
        finally:
            server.shutdown()
            thread.join()
