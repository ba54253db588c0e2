"""What the command line asks of a running server: `SnapshotService`, which stands beside Statehouse's API."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from recollect.compat.statehouse.messages import SERVICES, SNAPSHOT_SERVICE, grpc
from recollect.errors import AccessError, ConflictError, RecollectError, RequestError, UnavailableError

_TIMEOUT_S = 600.0  # a checkpoint after very many changes takes a while
_CHECK_ADDRESS = "check the address, and that `recollect serve` runs there"


class CheckpointInfo(NamedTuple):
    """One checkpoint of a server."""

    id: str
    commit_ts: int
    name: str
    description: str


class ServerClient:
    """A connection to `recollect serve` at HOST:PORT; a context manager.

    Every method raises RequestError or ConflictError for what the server refuses, and
    UnavailableError when it is not reached or fails.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def create_checkpoint(self, name: str, description: str) -> CheckpointInfo:
        """Take a checkpoint now; without a name the newest one if nothing was committed since."""
        reply = self._call("CreateSnapshot", {"name": name, "description": description})
        return _info(reply)

    def checkpoints(self) -> list[CheckpointInfo]:
        """Return all checkpoints, oldest first."""
        return [_info(one) for one in self._call("ListSnapshots", {}).snapshots]

    def _call(self, name: str, fields: Mapping[str, str]) -> Any:
        method = next(one for one in SERVICES[SNAPSHOT_SERVICE] if one.name == name)
        call = self._channel.unary_unary(
            f"/{SNAPSHOT_SERVICE}/{name}",
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            return call(method.request(**fields), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise _translated(error, f"the server at {self._address}, asked for {name}") from error


def _translated(error: Any, asked: str) -> RecollectError:
    """Return the error of ours for a status; the server's own words are kept."""
    code, details = error.code(), error.details()
    message = f"{asked}: {details}"
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(message)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return ConflictError(message)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return RequestError(f"{asked}, does not know it: it is no `recollect serve`", _CHECK_ADDRESS)
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        return AccessError(message)
    return UnavailableError(f"{message} ({code.name})", _CHECK_ADDRESS)


def _info(message: Any) -> CheckpointInfo:
    return CheckpointInfo(message.id, int(message.commit_ts), message.name, message.description)
