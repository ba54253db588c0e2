"""The gRPC face: tables of methods over the message classes that qdrant-client ships."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]  # no types

from recollect.testing.qdrant_server.access import Keys, key_of
from recollect.testing.qdrant_server.failures import ServerError
from recollect.testing.qdrant_server.faults import DropConnection
from recollect.testing.qdrant_server.storage import Storage

RpcFunction: TypeAlias = Callable[[Storage, Any], Any]
"""Takes the storage and the request message, returns the response message."""


class Method(NamedTuple):
    """One gRPC method; `access` as for REST routes."""

    function: RpcFunction
    access: str = "read"


class Service(NamedTuple):
    """One gRPC service: its descriptor (from a generated module) and its methods by name."""

    descriptor: Any
    methods: dict[str, Method]


class RpcFace:
    """A listening gRPC server."""

    def __init__(self, storage: Storage, keys: Keys, services: list[Service]) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8), options=options)
        for service in services:
            handlers = {
                name: _handler(storage, keys, service.descriptor, name, method)
                for name, method in service.methods.items()
            }
            generic = grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        """Stop at once; calls in flight are cancelled."""
        self._server.stop(grace=0).wait()


def _handler(storage: Storage, keys: Keys, descriptor: Any, name: str, method: Method) -> Any:
    spec = descriptor.methods_by_name[name]
    call = f"{descriptor.name}/{name}"

    def behaviour(request: Any, context: grpc.ServicerContext) -> Any:
        metadata = dict(context.invocation_metadata())
        started = time.perf_counter()  # noqa: TID251 - the answer's `time` member
        try:
            keys.check(key_of(metadata.get("api-key"), metadata.get("authorization")), method.access)
            storage.faults.before(call)
            response = method.function(storage, request)
            storage.faults.after(call)
        except ServerError as error:
            context.abort(error.grpc_code, error.message)
        except DropConnection:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if "time" in response.DESCRIPTOR.fields_by_name:
            response.time = time.perf_counter() - started  # noqa: TID251
        _check_size(response, storage.faults.response_bytes_max, context)
        return response

    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=GetMessageClass(spec.input_type).FromString,
        response_serializer=GetMessageClass(spec.output_type).SerializeToString,
    )


def _check_size(response: Any, limit: int | None, context: grpc.ServicerContext) -> None:
    size = response.ByteSize()
    if limit is not None and size > limit:
        message = f"Received message larger than max ({size} vs. {limit})"
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
