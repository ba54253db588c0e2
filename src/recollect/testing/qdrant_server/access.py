"""API keys: which calls a caller may make."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from recollect.testing.qdrant_server.failures import ServerError


class Keys(NamedTuple):
    """The server's keys; without any of them everybody may do everything."""

    read_write: str | None = None
    read_only: str | None = None

    def check(self, given: str | None, access: str) -> None:
        """Refuse a call that needs `access` ("none", "read", "write") with what was given."""
        if access == "none" or (self.read_write is None and self.read_only is None):
            return
        if not given:
            raise ServerError(401, "Must provide an API key or an Authorization bearer token")
        if self.read_write and hmac.compare_digest(given.encode(), self.read_write.encode()):
            return
        if self.read_only and hmac.compare_digest(given.encode(), self.read_only.encode()):
            if access == "read":
                return
            raise ServerError(403, "Forbidden: Global manage access is required")
        raise ServerError(401, "Invalid API key or JWT")


def key_of(api_key: str | None, authorization: str | None) -> str | None:
    """Pick the key out of the two headers that may carry it."""
    if api_key:
        return api_key
    return (authorization or "").removeprefix("Bearer ") or None
