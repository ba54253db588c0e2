"""Fixtures: a test server and a test cluster, filled over REST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from recollect.testing.qdrant_server import QdrantCluster, QdrantServer
from tests.qdrant_production.capturing import Bench

DIMENSION = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[QdrantCluster]:
    with QdrantCluster(tmp_path / "cluster") as running:
        yield running


@pytest.fixture
def rest(server: QdrantServer) -> Iterator[httpx.Client]:
    with client(server.rest_url) as opened:
        yield opened


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=20)


def ask(opened: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    """Call and return the result; a refusal is a failure."""
    answer = opened.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def make(opened: httpx.Client, name: str = "docs", **params: Any) -> None:
    ask(opened, "PUT", f"/collections/{name}", {"vectors": {"size": DIMENSION, "distance": "Dot"}, **params})


def write(opened: httpx.Client, ids: range | list[int], name: str = "docs", **more: Any) -> None:
    """Upsert points whose content follows from their id and `more`'s `seed`."""
    random = Random(more.pop("seed", 0))
    points = [
        {"id": n, "vector": [round(random.random(), 3) for _ in range(DIMENSION)], "payload": {"n": n}}
        for n in ids
    ]
    for start in range(0, len(points), 1000):
        body = {"points": points[start : start + 1000], **more}
        ask(opened, "PUT", f"/collections/{name}/points", body)


def drop(opened: httpx.Client, ids: list[int], name: str = "docs", **more: Any) -> None:
    ask(opened, "POST", f"/collections/{name}/points/delete", {"points": ids, **more})


def count(opened: httpx.Client, name: str = "docs", **more: Any) -> int:
    return int(ask(opened, "POST", f"/collections/{name}/points/count", {"exact": True, **more})["count"])


def points(opened: httpx.Client, name: str = "docs", **more: Any) -> list[Any]:
    body = {"limit": 100_000, "with_vector": True, **more}
    return list(ask(opened, "POST", f"/collections/{name}/points/scroll", body)["points"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
