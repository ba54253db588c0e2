"""A real Qdrant server: `make live QDRANT_URL=http://host:6333 QDRANT_GRPC=6334`; skipped without one.

The suite creates and deletes collections under common names. So it runs only on a server that has
none, and deletes after each test whatever is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest


class LiveServer(NamedTuple):
    """Where the server is; `url` is the adapter's, without the key."""

    rest_url: str
    url: str
    api_key: str

    def secret(self, name: str) -> str | None:
        return self.api_key if name == "QDRANT_API_KEY" else None


def live_server() -> LiveServer | None:
    """Read the place of the server from the environment; None if it names none."""
    rest_url = os.environ.get("QDRANT_URL", "").rstrip("/")
    if not rest_url:
        return None
    parts = urlsplit(rest_url)
    grpc = os.environ.get("QDRANT_GRPC", "6334").rpartition(":")[2]
    scheme = "qdrants" if parts.scheme == "https" else "qdrant"
    key = os.environ.get("QDRANT_API_KEY", "")
    url = f"{scheme}://{parts.hostname}:{grpc}{parts.path}?rest={parts.port or 6333}"
    return LiveServer(rest_url, url + ("&api_key_env=QDRANT_API_KEY" if key else ""), key)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = live_server() is None
    for item in items:
        if "live" in item.path.parts:
            item.add_marker(pytest.mark.live)
            if missing:
                item.add_marker(pytest.mark.skip(reason="no server: give QDRANT_URL"))


@pytest.fixture
def live() -> Iterator[LiveServer]:
    """An empty server, emptied again afterwards."""
    server = live_server()
    assert server is not None, "skipped before"
    headers = {"api-key": server.api_key} if server.api_key else {}
    with httpx.Client(base_url=server.rest_url, headers=headers, timeout=60, trust_env=False) as rest:
        held = names(rest)
        if held:
            pytest.exit(f"{server.rest_url} has collections ({', '.join(held)}): use an empty server", 2)
        yield server
        for name in names(rest):
            rest.delete(f"/collections/{name}").raise_for_status()


def names(rest: httpx.Client) -> list[str]:
    listed = rest.get("/collections").raise_for_status().json()["result"]["collections"]
    return [each["name"] for each in listed]
