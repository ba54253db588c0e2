"""Calls to a client of any kind: blocking or asynchronous, Qdrant's own or one that merely looks like it."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from recollect.errors import UnsupportedError


class ClientCalls:
    """Makes calls to one client; the event loop is never blocked.

    A blocking method runs in a thread. Whatever is returned is awaited if it can be.
    """

    def __init__(self, client: object) -> None:
        self.client = client

    async def call(self, name: str, arguments: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """Call a method by name with keyword arguments.

        Raises:
            UnsupportedError: The client has no such method.
            TimeoutError: No answer came in time.
            Whatever the client raises.
        """
        function = getattr(self.client, name, None)
        if not callable(function):
            raise UnsupportedError(f"the client {type(self.client).__name__} has no method {name!r}")
        # Not `wait_for`: until Python 3.12 it loses a cancellation that comes with the answer.
        async with asyncio.timeout(timeout_s):
            return await self._result(function, arguments)

    @staticmethod
    async def _result(function: Any, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(**arguments)
        result = await asyncio.to_thread(function, **arguments)
        return await result if inspect.isawaitable(result) else result

    def takes(self, name: str, parameter: str) -> bool:
        """Tell whether a method names this parameter in its signature; `**kwargs` names none."""
        try:
            return parameter in inspect.signature(getattr(self.client, name)).parameters
        except (AttributeError, TypeError, ValueError):
            return False


def is_refusal(error: Exception) -> bool:
    """Tell whether a server that is well refused a request that is wrong: HTTP 4xx, or gRPC's likes of it."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in {408, 429}
    code = getattr(error, "code", None)
    name = getattr(code(), "name", "") if callable(code) else ""
    return name in {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"}


def rest_address(client: object) -> tuple[str, str] | None:
    """Return the REST URL and API key that a Qdrant client uses; None for clients that do not tell.

    `QdrantClient` and `AsyncQdrantClient` carry both on what they wrap; a store may offer `rest_uri`.
    """
    for place in (client, getattr(client, "_client", None)):
        uri = getattr(place, "rest_uri", None)
        if isinstance(uri, str) and uri:
            headers = getattr(place, "_rest_headers", None)
            key = headers.get("api-key", "") if isinstance(headers, dict) else ""
            return uri, str(key)
    return None
