"""One server's two connections: gRPC for records, REST for everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from recollect.clock import Clock
from recollect.engines.qdrant.address import Address
from recollect.engines.qdrant.failures import PageTooLargeError, from_rpc, from_status, from_transport
from recollect.engines.qdrant.library import qdrant_library
from recollect.errors import AccessError, RequestError, UnavailableError

RECEIVED_BYTES_MAX = 64 << 20
"""Largest gRPC answer: what a batch may hold. The library's own default of 4 MiB is less than a page."""

ANSWER_BYTES_MAX = 1 << 30
"""Largest REST answer, unpacked. Those that records travel in have some hundred records."""

KEEPALIVE_MS = 30_000
RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Waits between attempts of one call: a restart of a node behind a balancer passes in them."""

PATIENCE_S = 3600.0
"""For calls that work through a whole collection, as the creation of a payload index does."""

_T = TypeVar("_T")


class Connection:
    """Calls to one server. One thread at a time; connects with the first call."""

    def __init__(self, address: Address, api_key: str, clock: Clock) -> None:
        self.address = address
        self.clock = clock
        self._metadata = [("api-key", api_key)] if api_key else []
        self._http: Any = None
        self._channel: Any = None
        self._stubs: dict[str, Any] = {}

    def close(self) -> None:
        """Close both connections. Safe to call twice; the next call connects again."""
        if self._http is not None:
            self._http.close()
        if self._channel is not None:
            self._channel.close()
        self._http = self._channel = None
        self._stubs = {}

    def rest(
        self, method: str, path: str, body: Any = None, *, action: str, timeout_s: float | None = None
    ) -> Any:
        """Make one REST call and return the `result` of the answer (the whole answer for `/`).

        Raises:
            UnavailableError, AccessError, NotFoundError, ConflictError, RequestError: By what was answered.
        """
        httpx = qdrant_library().httpx
        try:
            with self._client().stream(
                method, path, json=body, timeout=timeout_s or self.address.timeout_s
            ) as streamed:
                response = read_answer(streamed, action, self.address)
        except httpx.RequestError as error:
            raise from_transport(error, action, self.address) from error
        if response.status_code >= 300:
            raise from_status(response.status_code, refusal_text(response), action, self.address)
        try:
            answer = response.json()
        except (ValueError, RecursionError) as error:
            raise from_status(502, "the answer is no JSON; is this Qdrant?", action, self.address) from error
        if not isinstance(answer, dict):
            raise from_status(502, "the answer is no JSON object; is this Qdrant?", action, self.address)
        return answer if path == "/" else answer.get("result")

    @property
    def http(self) -> Any:
        """The REST connection, for bodies that do not fit into `rest`: an `httpx.Client`."""
        return self._client()

    def begin(self, name: str, request: Any) -> Any:
        """Send one gRPC call of the service Points; return its future, for `end`."""
        return self._stub(name).future(request, timeout=self.address.timeout_s, metadata=self._metadata)

    def end(self, future: Any, *, action: str) -> tuple[Any, int]:
        """Wait for a call; return the answer and its bytes on the wire.

        Raises:
            PageTooLargeError: The answer was above a limit; the others as in `rest`.
        """
        grpc = qdrant_library().grpc
        try:
            answer: tuple[Any, int] = future.result()
        except grpc.RpcError as error:
            raise from_rpc(error, action, self.address) from error
        except grpc.FutureCancelledError as error:
            raise UnavailableError(f"{action} on {self.address.url}: cancelled") from error
        return answer

    def retry(self, call: Callable[[], _T]) -> _T:
        """Make a call that may be made twice until it succeeds; give up after the last delay.

        Raises:
            UnavailableError: Of the last attempt. Other errors are raised at once.
        """
        for delay_s in RETRY_DELAYS_S:
            try:
                return call()
            except PageTooLargeError:
                raise
            except UnavailableError:
                self.clock.sleep(delay_s)
        return call()

    def _client(self) -> Any:
        if self._http is None:
            # Loading the system's certificates takes 50 ms: only where they are used. Proxies and
            # the like do not come from the environment: nothing here reads it.
            verify: Any = self._tls_context() if self.address.tls_ca else self.address.is_tls
            self._http = qdrant_library().httpx.Client(
                base_url=self.address.rest_url, headers=dict(self._metadata), verify=verify, trust_env=False
            )
        return self._http

    def _tls_context(self) -> Any:
        try:
            return qdrant_library().httpx.create_ssl_context(verify=self.address.tls_ca)
        except OSError as error:
            raise AccessError(f"the certificate {self.address.tls_ca} cannot be read: {error}") from error

    def _stub(self, name: str) -> Any:
        if name not in self._stubs:
            library = qdrant_library()
            request, response = _METHODS[name]
            answer = library.message(response)
            self._stubs[name] = self._open_channel().unary_unary(
                f"/qdrant.Points/{name}",
                request_serializer=library.message(request).SerializeToString,
                response_deserializer=lambda content: (answer.FromString(content), len(content)),
            )
        return self._stubs[name]

    def _open_channel(self) -> Any:
        if self._channel is None:
            grpc = qdrant_library().grpc
            options = [
                ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
            ]
            if not self.address.is_tls:
                self._channel = grpc.insecure_channel(self.address.grpc_target, options=options)
            else:
                root = Path(self.address.tls_ca).read_bytes() if self.address.tls_ca else None
                credentials = grpc.ssl_channel_credentials(root)
                self._channel = grpc.secure_channel(self.address.grpc_target, credentials, options=options)
        return self._channel


_METHODS = {
    "Scroll": ("ScrollPoints", "ScrollResponse"),
    "Upsert": ("UpsertPoints", "PointsOperationResponse"),
    "Count": ("CountPoints", "CountResponse"),
}


def collection_path(name: str, rest: str = "") -> str:
    """Return the REST path of a collection, or of something in it.

    Raises:
        RequestError: The name is a step of a path: the server would be asked for something else.
    """
    if name in {"", ".", ".."}:
        raise RequestError(f"{name!r} is no name of a collection")
    return f"/collections/{quote(name, safe='')}{rest}"


def read_answer(response: Any, action: str, address: Address) -> Any:
    """Read a streamed answer to its end; return it as one that was read.

    Raises:
        UnavailableError: It is larger than any answer is, unpacked: it would fill the memory.
    """
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > ANSWER_BYTES_MAX:
            raise UnavailableError(
                f"{action} on {address.url}: the answer is larger than {ANSWER_BYTES_MAX} bytes",
                "check that the address is that of a Qdrant",
            )
    return qdrant_library().httpx.Response(response.status_code, content=bytes(content))


def refusal_text(response: Any) -> str:
    """Pick the message out of a refusal: Qdrant's JSON, or a proxy's or an old server's text."""
    try:
        status = response.json()["status"]
        return str(status["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"HTTP {response.status_code} {response.text.strip()}".strip()
