"""Receive a stream that nobody vouches for: no length, no checksum, and a lock held on the other side.

The server holds a lock on the shard's segments for as long as it sends, so everything goes to disk
as fast as it comes, and a stream that stops or trickles is broken off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from recollect.clock import Clock
from recollect.engines.qdrant.capture.spool import Claim, disk_errors
from recollect.engines.qdrant.connection import Connection, read_answer, refusal_text
from recollect.engines.qdrant.failures import from_status, from_transport
from recollect.engines.qdrant.library import qdrant_library
from recollect.errors import UnavailableError

NOT_MODIFIED = 304


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a stream is given up.

    Attributes:
        idle_s: Seconds without a byte.
        window_s: Seconds over which the rate is measured.
        rate_min: Bytes a second, over a window; below it the server's lock is held for too little.
    """

    idle_s: float = 60.0
    window_s: float = 60.0
    rate_min: int = 16 * 1024


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A REST call that is answered by a stream, and what it is for, in words."""

    method: str
    path: str
    body: Any = None
    action: str


def receive(
    connection: Connection, call: Call, target: Path, *, limits: StreamLimits, clock: Clock, budget: Claim
) -> int | None:
    """Write the answer of a call into a file; return its bytes, or None for "not modified".

    Raises:
        UnavailableError: The stream broke off, stopped or trickled. The file is worth nothing.
        StorageFullError: The spool has no room for it.
        NotFoundError, AccessError, RequestError, ConflictError: As the server refused.
    """
    httpx, address = qdrant_library().httpx, connection.address
    timeout = httpx.Timeout(limits.idle_s, connect=address.timeout_s)
    headers = {"accept-encoding": "identity"}
    try:
        with connection.http.stream(
            call.method, call.path, json=call.body, headers=headers, timeout=timeout
        ) as response:
            if response.status_code == NOT_MODIFIED:
                return None
            if response.status_code >= 300:
                refused = read_answer(response, call.action, address)
                raise from_status(refused.status_code, refusal_text(refused), call.action, address)
            return _copy(response, call, target, _Rate(limits, clock), budget)
    except httpx.ReadTimeout as error:
        raise UnavailableError(
            f"{call.action} from {address.rest_url}: no byte came for {limits.idle_s:g} s",
            "see the server's log and its disk, then try again",
        ) from error
    except httpx.RequestError as error:
        raise from_transport(error, call.action, address) from error


def _copy(response: Any, call: Call, target: Path, rate: _Rate, budget: Claim) -> int:
    with disk_errors("writing", target), target.open("wb") as file:
        size = 0
        for piece in response.iter_raw():
            budget.take(len(piece))
            file.write(piece)
            size += len(piece)
            if rate.is_too_low(len(piece)):
                raise UnavailableError(
                    f"{call.action}: less than {rate.limits.rate_min} bytes a second came for "
                    f"{rate.limits.window_s:g} s, while the server holds a lock on the shard",
                    "find out what slows the connection down, then try again",
                )
    return size


class _Rate:
    """Watches how much comes in each window of time."""

    def __init__(self, limits: StreamLimits, clock: Clock) -> None:
        self.limits = limits
        self._clock = clock
        self._began = clock.monotonic()
        self._bytes = 0

    def is_too_low(self, byte_count: int) -> bool:
        """Add what came; tell whether a window ended with too little."""
        self._bytes += byte_count
        elapsed = self._clock.monotonic() - self._began
        if elapsed < self.limits.window_s:
            return False
        is_low = self._bytes < self.limits.rate_min * elapsed
        self._began, self._bytes = self._clock.monotonic(), 0
        return is_low
