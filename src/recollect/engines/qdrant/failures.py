"""Translation of what gRPC, HTTP and the server say into Recollect's errors.

Every message names the action, the server's URL (it holds no credentials) and what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recollect.engines.qdrant.address import Address
from recollect.errors import (
    AccessError,
    ConflictError,
    NotFoundError,
    RecollectError,
    RequestError,
    UnavailableError,
)

_TEXT_MAX = 500
_BY_CODE = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 412,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}


class PageTooLargeError(UnavailableError):
    """An answer was above a limit of the client, the server or a proxy; a smaller page may pass."""


@contextmanager
def understood(action: str, address: Address) -> Iterator[None]:
    """Read an answer of the server in this context: one of another shape is an UnavailableError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnavailableError(
            f"{action} on {address.url}: the answer is none of a Qdrant: {type(error).__name__}: {error}",
            "check that the address is that of a Qdrant, and its version",
        ) from error


def from_rpc(error: Any, action: str, address: Address) -> RecollectError:
    """Translate a `grpc.RpcError`."""
    code, details = error.code().name, (error.details() or "")[:_TEXT_MAX]
    where = f"{action} on {address.url}"
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
        return PageTooLargeError(f"{where}: an answer is too large: {details}")
    if code == "INVALID_ARGUMENT" and "Limit exceeded" in details and '"limit"' in details:
        return PageTooLargeError(f"{where}: the collection's strict mode limits pages: {details}")
    if code == "DEADLINE_EXCEEDED":
        return UnavailableError(
            f"{where}: no answer within {address.timeout_s:g} s",
            "check the server's load, or raise `timeout=` in the URL",
        )
    if code == "UNAVAILABLE":
        return UnavailableError(
            f"{where}: the gRPC port {address.grpc_port} of {address.host} cannot be reached: {details}",
            "check that the server runs and that this port is its gRPC port (`service.grpc_port`)",
        )
    return from_status(_BY_CODE.get(code, 500), details or code, action, address)


def from_transport(error: Exception, action: str, address: Address) -> RecollectError:
    """Translate an `httpx.RequestError`: no answer came, or one that does not unpack."""
    return UnavailableError(
        f"{action} on {address.url}: the REST port {address.rest_port} of {address.host} gave no answer: "
        f"{type(error).__name__}: {error}",
        "check that the server runs, the host, the port (`rest=`), and TLS",
    )


def from_status(status: int, text: str, action: str, address: Address) -> RecollectError:
    """Translate a refusal of the server, by HTTP status."""
    message = f"{action} on {address.url}: {text[:_TEXT_MAX]}"
    if status == 401:
        return AccessError(message, "give the API key with `api_key_env=NAME` in the URL")
    if status == 403:
        return AccessError(message, "use an API key that has this right")
    if status == 404:
        return NotFoundError(message)
    if status == 409:
        return ConflictError(message)
    if status in {429, 502, 503, 504}:
        return UnavailableError(message, "wait until the server is ready (`/readyz`), then try again")
    if status >= 500 and status != 501:
        return UnavailableError(message, "see the server's log")
    return RequestError(message)
