"""Questions to a running snapshotter, both sides: the gRPC service `SERVICE`.

It stands beside containerd's service on the same socket. Its one method, Ask, takes the question's name
as bytes and answers with JSON (`graphdriver.serving.questions`); there are no messages of protobuf.
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from typing import Any, Final

import grpc

from graphdriver.containerd.callers import Callers
from graphdriver.errors import BadAnswerError, RemoteError, UnreachableError
from graphdriver.serving.questions import QUESTIONS, answer
from graphdriver.serving.served_home import ServedHome

SERVICE: Final = "graphdriver.v1.Questions"

_LIMIT: Final = 64 << 20
"""The largest answer, in bytes: a list of some 200,000 layers."""


def questions(
    served: ServedHome, callers: Callers, pool: concurrent.futures.ThreadPoolExecutor
) -> grpc.GenericRpcHandler:
    """Return the service's handlers, for `grpc.Server.add_generic_rpc_handlers`.

    Args:
        served: what is asked about.
        callers: the processes that are connected.
        pool: the threads that answer. Not the server's: calls that wait may occupy all of those.
    """

    def ask(request: bytes, context: grpc.ServicerContext) -> bytes:
        question = request[:80].decode("utf-8", "replace")
        if question not in QUESTIONS:
            known = ", ".join(QUESTIONS)
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"unknown question {question!r}; known are {known}"
            )
        return answer(served, question, callers.daemon())

    behavior: Any = ask
    behavior.experimental_thread_pool = pool
    return grpc.method_handlers_generic_handler(
        SERVICE, {"Ask": grpc.unary_unary_rpc_method_handler(ask)}
    )


def ask(address: str, question: str, timeout: float | None = 60.0) -> object:
    """Ask a running snapshotter a question: ``status``, ``layers`` or ``calls``.

    Args:
        address: the absolute path of its socket.
        question: its name.
        timeout: how long the answer may take, in seconds; None: no limit.

    Raises:
        RemoteError: it does not know the question, or is another program's snapshotter.
        UnreachableError: no process listens there, or no answer came.
        BadAnswerError: the answer is not JSON, or too large.
    """
    options = [("grpc.max_receive_message_length", _LIMIT)]
    with grpc.insecure_channel(f"unix:{address}", options) as channel:
        call: Callable[..., bytes] = channel.unary_unary(f"/{SERVICE}/Ask")
        try:
            body = call(question.encode(), timeout=timeout)
        except grpc.RpcError as error:
            raise _described(address, question, error) from error
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(
            f"the answer to the question {question} is not JSON: {error}"
        ) from error
    return found


def _described(address: str, question: str, error: Any) -> Exception:
    code, text = error.code(), error.details()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return UnreachableError(
            f"the snapshotter at {address} does not answer: {text}",
            hint="check that it runs, and look into its log",
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return BadAnswerError(f"the answer to the question {question} is over {_LIMIT} bytes")
    return RemoteError(f"{question}: {text}", code.value[0])
