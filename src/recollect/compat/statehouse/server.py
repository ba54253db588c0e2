"""The gRPC server of Statehouse's API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recollect.compat.statehouse.messages import SERVICES, Method, grpc
from recollect.compat.statehouse.service import StatehouseService, method_of, status_of
from recollect.database.limits import VALUE_BYTES_MAX
from recollect.errors import RecollectError, UnavailableError

_LOG = logging.getLogger("recollect.statehouse")
_WORKERS = 32
_MESSAGE_BYTES_MAX = VALUE_BYTES_MAX + (1 << 20)
_OPTIONS = (
    # Two servers on one port would silently share the clients.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
)


class StatehouseServer:
    """Serves one database. `start` it, `stop` it.

    Attributes:
        port: The port that it listens on; chosen by the system if the address has port 0.
    """

    def __init__(self, service: StatehouseService, address: str) -> None:
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="statehouse")
        self._server = grpc.server(self._executor, options=_OPTIONS)
        handlers = [
            grpc.method_handlers_generic_handler(
                name, {method.name: _handler(method, method_of(service, method.name)) for method in methods}
            )
            for name, methods in SERVICES.items()
        ]
        self._server.add_generic_rpc_handlers(tuple(handlers))
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            self._executor.shutdown()
            raise UnavailableError(
                f"cannot listen on {address}: {error}", "choose another address, or stop what listens there"
            ) from error
        self.address = address

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        _LOG.info("Listening on %s", self.address)

    def stop(self, grace_s: float) -> None:
        """Take no more requests and wait up to `grace_s` seconds for those under way."""
        self._server.stop(grace_s).wait()
        self._executor.shutdown()


def _handler(method: Method, function: Callable[[Any], Any]) -> grpc.RpcMethodHandler:
    kind = grpc.unary_stream_rpc_method_handler if method.is_stream else grpc.unary_unary_rpc_method_handler
    return kind(
        _streaming(function) if method.is_stream else _unary(function),
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


def _unary(function: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return function(request)
        except RecollectError as error:
            _refuse(context, error)
        except Exception as error:  # noqa: BLE001 - the client gets a status, the log the trace
            _fail(context, error)

    return call


def _streaming(
    function: Callable[[Any], Iterator[Any]],
) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
    def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from function(request)
        except RecollectError as error:
            _refuse(context, error)
        except Exception as error:  # noqa: BLE001 - the client gets a status, the log the trace
            _fail(context, error)

    return call


def _refuse(context: grpc.ServicerContext, error: RecollectError) -> None:
    status = status_of(error)
    if status in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}:
        _LOG.error("Write failed: %s", error)
    context.abort(status, error.message)


def _fail(context: grpc.ServicerContext, error: Exception) -> None:
    _LOG.exception("A request failed by a bug")
    context.abort(grpc.StatusCode.INTERNAL, f"a bug of the server: {type(error).__name__}; see its log")
