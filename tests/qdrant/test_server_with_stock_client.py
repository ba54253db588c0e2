"""The stock qdrant-client drives the test server, over REST and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from recollect.testing.qdrant_server import QdrantServer
from tests.qdrant.conftest import connect

NAME = "docs"
UUID_ID = str(UUID(int=7))


@pytest.fixture
def filled(client: QdrantClient) -> QdrantClient:
    client.create_collection(
        NAME, models.VectorParams(size=2, distance=models.Distance.EUCLID), shard_number=3
    )
    points = [models.PointStruct(id=n, vector=[float(n), 0.0], payload={"n": n}) for n in range(20)]
    points.append(models.PointStruct(id=UUID_ID, vector=[99.0, 0.0], payload={"n": 20}))
    client.upsert(NAME, points, wait=True)
    return client


def all_ids(client: QdrantClient, limit: int = 6, **scroll: Any) -> Iterator[int | str | UUID]:
    offset: Any = None
    while True:
        records, offset = client.scroll(NAME, limit=limit, offset=offset, **scroll)
        yield from (record.id for record in records)
        if offset is None:
            return


def test_it_is_healthy_and_has_a_version(client: QdrantClient, server: QdrantServer) -> None:
    assert client.info().version == "1.19.0"
    assert client.get_collections().collections == []
    assert server.rest_port != server.grpc_port


def test_scrolling_visits_every_point_of_all_shards_in_id_order(filled: QdrantClient) -> None:
    assert list(all_ids(filled)) == [*range(20), UUID_ID]
    assert filled.count(NAME).count == 21


def test_a_shard_can_be_scrolled_alone(filled: QdrantClient) -> None:
    http: Any = filled.http.client
    found = []
    for shard in range(3):
        url = f"{http.host}/collections/{NAME}/shards/{shard}/points/scroll"
        response = http._client.post(url, json={"limit": 100}).json()["result"]
        found.append([point["id"] for point in response["points"]])
    assert all(found)
    assert sorted(str(each) for part in found for each in part) == sorted([*map(str, range(20)), UUID_ID])


def test_points_change(filled: QdrantClient) -> None:
    filled.delete(NAME, [0, 1])
    filled.set_payload(NAME, {"m": [None]}, points=[2, 999])
    filled.overwrite_payload(NAME, {"only": [1, 2.5]}, points=[3])
    filled.delete_payload(NAME, ["n"], points=[4])
    filled.clear_payload(NAME, points_selector=[5])
    filled.update_vectors(NAME, [models.PointVectors(id=6, vector=[0.5, 0.25])])
    filled.delete(NAME, models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=15))]))

    records = {record.id: record for record in filled.scroll(NAME, limit=100, with_vectors=True)[0]}
    assert sorted(records) == list(range(2, 15))
    assert records[2].payload == {"n": 2, "m": [None]}
    assert records[3].payload == {"only": [1, 2.5]}
    assert records[4].payload == {}
    assert records[5].payload == {}
    assert records[6].vector == [0.5, 0.25]


def test_a_batch_of_changes_is_applied_in_order(filled: QdrantClient) -> None:
    point = models.PointStruct(id=100, vector=[1.0, 1.0], payload={"a": 1})
    results = filled.batch_update_points(
        NAME,
        [
            models.UpsertOperation(upsert=models.PointsList(points=[point])),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": 2}, points=[100])),
            models.DeleteOperation(delete=models.PointIdsList(points=[0])),
        ],
    )
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 3
    assert filled.retrieve(NAME, [0, 100])[0].payload == {"a": 1, "b": 2}


def test_queries_find_the_nearest_points(filled: QdrantClient) -> None:
    found = filled.query_points(NAME, query=[7.2, 0.0], limit=2, with_payload=True).points
    assert [point.id for point in found] == [7, 8]
    assert found[0].payload == {"n": 7}
    assert [point.id for point in filled.query_points(NAME, query=3, limit=1).points] == [3]


def test_filters_select(filled: QdrantClient) -> None:
    wanted = models.Filter(
        must=[models.FieldCondition(key="n", range=models.Range(gt=3, lt=9))],
        must_not=[models.FieldCondition(key="n", match=models.MatchValue(value=5))],
    )
    assert list(all_ids(filled, scroll_filter=wanted)) == [4, 6, 7, 8]
    assert filled.count(NAME, wanted).count == 4


def test_configuration_comes_back_as_it_was_given(client: QdrantClient) -> None:
    client.create_collection(
        NAME,
        {
            "a": models.VectorParams(
                size=4,
                distance=models.Distance.COSINE,
                datatype=models.Datatype.FLOAT16,
                on_disk=True,
                hnsw_config=models.HnswConfigDiff(m=8),
            ),
            "m": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        {"s": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.5)
        ),
        hnsw_config=models.HnswConfigDiff(ef_construct=50),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=5000),
        shard_number=2,
        on_disk_payload=False,
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=500),
    )
    client.update_collection(NAME, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=6000))
    client.create_payload_index(NAME, "n", models.PayloadSchemaType.INTEGER)
    client.create_payload_index(
        NAME, "k", models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    )

    info = client.get_collection(NAME)
    vectors: Any = info.config.params.vectors
    assert vectors["a"].datatype == models.Datatype.FLOAT16
    assert vectors["a"].hnsw_config.m == 8
    assert vectors["m"].multivector_config is not None
    assert info.config.params.sparse_vectors is not None
    assert info.config.params.sparse_vectors["s"].modifier == models.Modifier.IDF
    assert info.config.params.shard_number == 2
    assert info.config.optimizer_config.indexing_threshold == 6000
    assert info.config.hnsw_config.ef_construct == 50
    assert info.config.quantization_config is not None
    assert info.payload_schema["n"].data_type == models.PayloadSchemaType.INTEGER
    params: Any = info.payload_schema["k"].params
    assert params.is_tenant
    client.delete_payload_index(NAME, "n")
    assert list(client.get_collection(NAME).payload_schema) == ["k"]


def test_named_sparse_and_multi_vectors_come_back(client: QdrantClient) -> None:
    dot = models.Distance.DOT
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        NAME,
        {
            "d": models.VectorParams(size=2, distance=dot),
            "m": models.VectorParams(size=2, distance=dot, multivector_config=multi),
        },
        {"s": models.SparseVectorParams()},
    )
    full: Any = {
        "d": [1.0, 2.0],
        "m": [[1.0, 2.0], [3.0, 4.0]],
        "s": models.SparseVector(indices=[1, 9], values=[0.5, 0.25]),
    }
    client.upsert(NAME, [models.PointStruct(id=1, vector=full), models.PointStruct(id=2, vector={})])

    first, second = client.retrieve(NAME, [1, 2], with_vectors=True)
    assert first.vector == full
    assert not second.vector
    client.delete_vectors(NAME, ["d"], [1])
    vectors: Any = client.retrieve(NAME, [1], with_vectors=True)[0].vector
    assert sorted(vectors) == ["m", "s"]


def test_aliases_change_together_or_not_at_all(client: QdrantClient) -> None:
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    for name in ("one", "two"):
        client.create_collection(name, params)
    client.update_collection_aliases([_create("one", "live")])
    client.update_collection_aliases(
        [
            models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="live")),
            _create("two", "live"),
        ]
    )
    assert [each.alias_name for each in client.get_collection_aliases("two").aliases] == ["live"]
    with pytest.raises(Exception, match=r"doesn.+t exist"):
        client.update_collection_aliases([_create("one", "extra"), _create("none", "other")])
    assert len(client.get_aliases().aliases) == 1
    assert client.collection_exists("live")
    client.delete_collection("two")
    assert client.get_aliases().aliases == []


def _create(collection: str, alias: str) -> models.CreateAliasOperation:
    made = models.CreateAlias(collection_name=collection, alias_name=alias)
    return models.CreateAliasOperation(create_alias=made)


def test_what_is_missing_or_wrong_is_refused(filled: QdrantClient) -> None:
    with pytest.raises(Exception, match=r"doesn.+t exist"):
        filled.get_collection("other")
    with pytest.raises(Exception, match="already exists"):
        filled.create_collection(NAME, models.VectorParams(size=2, distance=models.Distance.DOT))
    with pytest.raises(Exception, match="Vector dimension error: expected dim: 2, got 3"):
        filled.upsert(NAME, [models.PointStruct(id=1, vector=[1.0, 2.0, 3.0])])
    with pytest.raises(Exception, match=r"[Nn]ot a valid point ID|Unable to parse UUID"):
        filled.upsert(NAME, [models.PointStruct(id="no-uuid", vector=[1.0, 2.0])])


def test_rest_refusals_have_the_status_of_qdrant(server: QdrantServer) -> None:
    with pytest.raises(UnexpectedResponse) as refusal:
        connect(server).get_collection("none")
    assert refusal.value.status_code == 404
    assert b'"status":{"error":"Not found: Collection `none` doesn' in refusal.value.content


def test_collections_and_aliases_survive_a_restart(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).random((50, 8), dtype=np.float32)
    with QdrantServer(tmp_path / "server") as server:
        client = connect(server)
        client.create_collection(NAME, models.VectorParams(size=8, distance=models.Distance.DOT))
        client.upload_collection(NAME, matrix, ids=range(50), wait=True)
        client.update_collection_aliases([_create(NAME, "live")])
        client.close()
    with QdrantServer(tmp_path / "server") as server:
        client = connect(server)
        records = client.scroll("live", limit=100, with_vectors=True)[0]
        client.close()
    assert np.array_equal(np.array([record.vector for record in records], dtype=np.float32), matrix)
