"""The gRPC service ``containerd.services.diff.v1.Diff``: messages in, messages out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import grpc

from graphdriver.abilities import Mount
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.diff.content import LEASE, NAMESPACE, Caller
from graphdriver.containerd.diff.differ import Descriptor, Differ
from graphdriver.containerd.service import logged
from graphdriver.serving.served_home import ServedHome

SERVICE: Final = "containerd.services.diff.v1.Diff"


def handlers(differ: Differ, served: ServedHome) -> grpc.GenericRpcHandler:
    """Return the service's handlers, for `grpc.Server.add_generic_rpc_handlers`."""

    def apply(request: pb.ApplyRequest, context: grpc.ServicerContext) -> pb.ApplyResponse:
        with logged(served, "Apply", request, context):
            applied = differ.apply(_blob(request.diff), _mounts(request.mounts), _caller(context))
        return pb.ApplyResponse(applied=_descriptor(applied))

    def diff(request: pb.DiffRequest, context: grpc.ServicerContext) -> pb.DiffResponse:
        with logged(served, "Diff", request, context):
            made = differ.diff(
                _mounts(request.left),
                _mounts(request.right),
                request.media_type,
                request.ref,
                request.labels,
                _caller(context),
            )
        return pb.DiffResponse(diff=_descriptor(made))

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Apply": grpc.unary_unary_rpc_method_handler(
                apply, pb.ApplyRequest.FromString, pb.ApplyResponse.SerializeToString
            ),
            "Diff": grpc.unary_unary_rpc_method_handler(
                diff, pb.DiffRequest.FromString, pb.DiffResponse.SerializeToString
            ),
        },
    )


def _caller(context: grpc.ServicerContext) -> Caller:
    headers = {key: str(value) for key, value in context.invocation_metadata()}
    return Caller(headers.get(NAMESPACE, ""), headers.get(LEASE, ""), context.add_callback)


def _blob(one: pb.Descriptor) -> Descriptor:
    return Descriptor(one.media_type, one.digest, one.size)


def _descriptor(one: Descriptor) -> pb.Descriptor:
    return pb.Descriptor(media_type=one.media_type, digest=one.digest, size=one.size)


def _mounts(mounts: Iterable[pb.Mount]) -> list[Mount]:
    return [Mount(one.type, one.source, tuple(one.options)) for one in mounts]
