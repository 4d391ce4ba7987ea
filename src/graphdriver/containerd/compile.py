"""Generate ``_messages_pb2.py`` from ``messages.proto``: ``python -m graphdriver.containerd.compile``.

It needs grpcio-tools. protoc registers a file under its name, and others may register ``messages`` in
the same process: so it is compiled under a private name.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
import tempfile

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
NAME = "_messages"
GENERATED = (f"{NAME}_pb2.py", f"{NAME}_pb2.pyi")


def compile_into(directory: str) -> None:
    """Write the files `GENERATED` into a directory.

    Raises:
        RuntimeError: protoc failed; its output has the reason.
    """
    from grpc_tools import protoc

    known = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as own:
        # protoc names its output after its input, and registers it under that name.
        shutil.copy(os.path.join(DIRECTORY, "messages.proto"), os.path.join(own, f"{NAME}.proto"))
        words = [f"-I{own}", f"-I{known}", f"--python_out={directory}", f"--pyi_out={directory}"]
        if protoc.main(["protoc", *words, f"{NAME}.proto"]) != 0:
            raise RuntimeError("protoc failed")


if __name__ == "__main__":
    compile_into(DIRECTORY)
