"""Make ``_messages_pb2.py`` of ``snapshots.proto``: ``python -m graphdriver.containerd.compile``.

It needs grpcio-tools. The name is private: what protoc would choose, ``snapshots_pb2``, is everybody's.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
import tempfile

FOLDER = os.path.dirname(os.path.abspath(__file__))
NAME = "_messages"
MADE = (f"{NAME}_pb2.py", f"{NAME}_pb2.pyi")


def compile_into(folder: str) -> None:
    """Write the files called `MADE`.

    Raises:
        RuntimeError: protoc failed; it has said why.
    """
    from grpc_tools import protoc

    known = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as own:
        # protoc names what it makes after what it reads, and registers it under that name.
        shutil.copy(os.path.join(FOLDER, "snapshots.proto"), os.path.join(own, f"{NAME}.proto"))
        words = [f"-I{own}", f"-I{known}", f"--python_out={folder}", f"--pyi_out={folder}"]
        if protoc.main(["protoc", *words, f"{NAME}.proto"]) != 0:
            raise RuntimeError("protoc failed")


if __name__ == "__main__":
    compile_into(FOLDER)
