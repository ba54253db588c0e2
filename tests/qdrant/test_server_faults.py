"""Every fault switch of the test server does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from recollect.testing.qdrant_server import QdrantServer
from tests.qdrant.conftest import connect

NAME = "docs"


def fill(server: QdrantServer, count: int = 10, **create: Any) -> None:
    client = connect(server)
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection(NAME, params, **create)
    client.upsert(NAME, [models.PointStruct(id=each, vector=[1.0, 2.0]) for each in range(count)])
    client.close()


def test_a_call_can_be_refused_after_some_went_through(server: QdrantServer) -> None:
    fill(server)
    client = connect(server)
    server.faults.refuse("points/scroll", after=1, count=1)
    assert client.scroll(NAME)[0]
    with pytest.raises(UnexpectedResponse) as refusal:
        client.scroll(NAME)
    assert refusal.value.status_code == 503
    assert client.scroll(NAME)[0]
    client.close()


def test_a_connection_can_be_dropped_on_either_protocol(server: QdrantServer) -> None:
    fill(server)
    rest, rpc = connect(server), connect(server, grpc=True)
    server.faults.drop_connection("points/scroll")
    with pytest.raises(ResponseHandlingException):
        rest.scroll(NAME)
    server.faults.drop_connection("Points/Scroll")
    with pytest.raises(grpc.RpcError) as failure:
        rpc.scroll(NAME)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    rest.close()
    rpc.close()


def test_a_lost_answer_means_that_the_work_was_done(server: QdrantServer) -> None:
    fill(server)
    client = connect(server)
    server.faults.lose_answer("PUT /collections/{name}/points")
    with pytest.raises(ResponseHandlingException):
        client.upsert(NAME, [models.PointStruct(id=77, vector=[1.0, 2.0])])
    assert client.retrieve(NAME, [77])
    client.close()


def test_a_stalled_call_answers_when_it_is_released(server: QdrantServer) -> None:
    fill(server)
    server.faults.stall("Points/Count")
    client = connect(server, grpc=True, timeout=1)
    with pytest.raises(grpc.RpcError) as failure:
        client.count(NAME)
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    server.faults.clear()
    assert client.count(NAME).count == 10
    client.close()


def test_big_messages_can_be_refused(server: QdrantServer) -> None:
    fill(server)
    client = connect(server, grpc=True)
    server.faults.response_bytes_max = 100
    with pytest.raises(grpc.RpcError) as failure:
        client.scroll(NAME, limit=10, with_vectors=True)
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(client.scroll(NAME, limit=2, with_vectors=True)[0]) == 2
    client.close()


def test_deferred_points_are_hidden_only_while_unoptimized_points_are_prevented(server: QdrantServer) -> None:
    fill(server, optimizers_config=models.OptimizersConfigDiff(prevent_unoptimized=True))
    client = connect(server)
    server.faults.hidden_points = 3
    assert [record.id for record in client.scroll(NAME, limit=100)[0]] == list(range(7))
    assert client.count(NAME).count == 7
    client.update_collection(NAME, optimizers_config=models.OptimizersConfigDiff(prevent_unoptimized=False))
    assert client.count(NAME).count == 10
    client.close()


def test_strict_mode_limits_pages(server: QdrantServer) -> None:
    fill(server, strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=4))
    client = connect(server)
    with pytest.raises(UnexpectedResponse, match="Limit exceeded 5 > 4") as refusal:
        client.scroll(NAME, limit=5)
    assert refusal.value.status_code == 400
    assert len(client.scroll(NAME, limit=4)[0]) == 4
    client.close()


def test_keys_are_asked_for_on_both_protocols(tmp_path: Path) -> None:
    with QdrantServer(tmp_path, api_key="secret", read_only_api_key="reader") as server:
        assert httpx.get(f"{server.rest_url}/healthz").status_code == 200
        assert httpx.get(f"{server.rest_url}/collections").status_code == 401
        assert httpx.get(f"{server.rest_url}/collections", headers={"api-key": "wrong"}).status_code == 401
        reader = {"authorization": "Bearer reader"}
        assert httpx.get(f"{server.rest_url}/collections", headers=reader).status_code == 200
        refused = httpx.delete(f"{server.rest_url}/collections/x", headers=reader)
        assert refused.status_code == 403
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        call = channel.unary_unary("/qdrant.Collections/List")
        with pytest.raises(grpc.RpcError) as failure:
            call(b"")
        assert failure.value.code() == grpc.StatusCode.UNAUTHENTICATED
        call(b"", metadata=[("api-key", "secret")])
        channel.close()
