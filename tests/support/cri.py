"""The services of ``cri.proto``, compiled when a test needs them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

_NAME = "cri.proto"
_TIMEOUT = 120.0


@functools.cache
def _file() -> Any:
    """Return the compiled file, in a pool of its own: others may register the same names."""
    with tempfile.TemporaryDirectory() as own:
        out = Path(own, "compiled")
        words = [f"-I{Path(__file__).parent}", f"--descriptor_set_out={out}", _NAME]
        assert protoc.main(["protoc", *words]) == 0
        files = FileDescriptorSet.FromString(out.read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool.FindFileByName(_NAME)


def calls(service: str, channel: grpc.Channel) -> Any:
    """Return an object with a method for each call of a service.

    Its arguments are the fields of the request; dicts become messages, and names values of enums.
    """
    descriptor = _file().services_by_name[service]
    return SimpleNamespace(
        **{one.name: _call(descriptor.full_name, one, channel) for one in descriptor.methods}
    )


def _call(service: str, method: Any, channel: grpc.Channel) -> Callable[..., Any]:
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    call: Callable[..., Any] = channel.unary_unary(
        f"/{service}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return lambda **fields: call(request(**fields), timeout=_TIMEOUT, wait_for_ready=True)
