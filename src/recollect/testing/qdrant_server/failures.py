"""What the server answers when it refuses: HTTP status, gRPC code and message in Qdrant's words."""

from __future__ import annotations

import grpc

_GRPC_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


class ServerError(Exception):
    """A refusal; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def grpc_code(self) -> grpc.StatusCode:
        """The gRPC code that Qdrant uses for this HTTP status."""
        return _GRPC_CODES[self.status]


def bad_request(message: str) -> ServerError:
    """400: the request is wrong."""
    return ServerError(400, message)


def no_collection(name: str) -> ServerError:
    """404: there is no such collection."""
    return ServerError(404, f"Not found: Collection `{name}` doesn't exist!")


def from_engine(error: Exception) -> ServerError:
    """Translate what the engine raised; nearly all of it is wrong input."""
    text = str(error)
    if text.startswith("No point with id"):
        return ServerError(404, f"Not found: {text}")
    return ServerError(400, f"Wrong input: {text}")
