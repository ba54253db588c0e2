"""The Qdrant target: what it creates, how it switches, and what failures leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from recollect.engines.qdrant.staged import QdrantStaged
from recollect.engines.qdrant.target import QdrantTarget
from recollect.errors import ConflictError, RequestError, UnavailableError, UnsupportedError
from recollect.testing.engine_samples import SMALL, schema_of, small_row
from recollect.testing.qdrant_server import QdrantServer
from recollect.testing.records import Row, build_records, record_ids
from recollect.values.schema import CollectionSchema, PayloadIndex, VectorSpec
from tests.qdrant.conftest import connect, open_source, open_target

NAME = "docs"
ROWS = [small_row(each) for each in range(50)]


@pytest.fixture
def stock(server: QdrantServer) -> Iterator[QdrantClient]:
    client = connect(server)
    yield client
    client.close()


@pytest.fixture
def target(server: QdrantServer) -> Iterator[QdrantTarget]:
    opened = open_target(server)
    yield opened
    opened.close()


def loaded(
    target: QdrantTarget,
    *,
    name: str = NAME,
    schema: CollectionSchema = SMALL,
    aliases: tuple[str, ...] = (),
    rows: list[Row] = ROWS,
) -> QdrantStaged:
    staged = target.stage(name, schema, aliases)
    staged.write(build_records(schema, rows))
    staged.finish()
    return staged


def ids_behind(client: QdrantClient, name: str = NAME) -> list[Any]:
    return [record.id for record in client.scroll(name, limit=1000)[0]]


def collections(client: QdrantClient) -> list[str]:
    return sorted(each.name for each in client.get_collections().collections)


def test_every_setting_of_a_collection_comes_back(
    server: QdrantServer, stock: QdrantClient, target: QdrantTarget
) -> None:
    scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.9, always_ram=True)
    stock.create_collection(
        "old",
        {
            "a": models.VectorParams(
                size=2,
                distance=models.Distance.COSINE,
                datatype=models.Datatype.FLOAT16,
                on_disk=True,
                hnsw_config=models.HnswConfigDiff(m=8, payload_m=4),
                quantization_config=models.ScalarQuantization(scalar=scalar),
            ),
            "m": models.VectorParams(
                size=2,
                distance=models.Distance.MANHATTAN,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        {
            "s": models.SparseVectorParams(
                modifier=models.Modifier.IDF,
                index=models.SparseIndexParams(on_disk=True, full_scan_threshold=99),
            )
        },
        shard_number=2,
        replication_factor=1,
        on_disk_payload=False,
        hnsw_config=models.HnswConfigDiff(ef_construct=64),
        optimizers_config=models.OptimizersConfigDiff(
            indexing_threshold=7777, deleted_threshold=0.3, prevent_unoptimized=True
        ),
        wal_config=models.WalConfigDiff(wal_capacity_mb=16),
        quantization_config=models.BinaryQuantization(
            binary=models.BinaryQuantizationConfig(always_ram=False)
        ),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=9),
        metadata={"owner": "team"},
    )
    stock.create_payload_index("old", "n", models.PayloadSchemaType.INTEGER)
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True, on_disk=True)
    stock.create_payload_index("old", "k", tenant)
    text = models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, min_token_len=2, lowercase=True
    )
    stock.create_payload_index("old", "t", text)

    source = open_source(server)
    with source.hold() as view:
        schema = view.describe("old").schema
        loaded(target, name="new", schema=schema, rows=[Row(id=1, vectors={"a": [1.0, 0.0]})]).switch()
    with source.hold() as view:
        assert view.describe("new").schema == schema
    source.close()


def test_a_schema_of_another_product_is_enough(
    stock: QdrantClient, server: QdrantServer, target: QdrantTarget
) -> None:
    schema = CollectionSchema(
        vectors=(VectorSpec(name="v", dimension=2), VectorSpec(name="w", kind="sparse")),
        payload_indexes=(
            PayloadIndex(field="n", type="integer", parameters={"range": True, "lookup": True}),
        ),
        parameters={"hnsw_config": {"m": 4}, "unheard_of": {"x": 1}},
        native_engine="memory",
    )
    loaded(target, schema=schema, rows=[Row(id=1, vectors={"v": [3.0, 4.0]})]).switch()
    info = stock.get_collection(NAME)
    assert info.config.hnsw_config.m == 4
    assert info.payload_schema["n"].data_type == models.PayloadSchemaType.INTEGER
    assert stock.retrieve(NAME, [1], with_vectors=True)[0].vector == {"v": [3.0, 4.0]}
    source = open_source(server)
    with source.hold() as view:
        assert view.describe(NAME).schema.vector("v").metric == "dot"
    source.close()


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        (schema_of(VectorSpec(name="v", dimension=70000)), "70000"),
        (CollectionSchema(payload_indexes=(PayloadIndex(field="f", type="vector"),)), "'vector'"),
    ],
)
def test_what_qdrant_cannot_hold_is_refused_before_anything_is_created(
    stock: QdrantClient, target: QdrantTarget, schema: CollectionSchema, what: str
) -> None:
    with pytest.raises(UnsupportedError, match=what):
        target.check_schema(schema)
    with pytest.raises(UnsupportedError, match=what):
        target.stage(NAME, schema, ())
    assert collections(stock) == []


@pytest.mark.parametrize("integer", [2**64, -(2**63) - 1])
def test_integers_that_qdrant_would_round_are_refused(target: QdrantTarget, integer: int) -> None:
    staged = target.stage(NAME, SMALL, ())
    with pytest.raises(UnsupportedError, match=str(integer)):
        staged.write(build_records(SMALL, [Row(id=1, payload={"x": [2**63, integer]})]))
    staged.discard()


def test_indexing_begins_after_loading(stock: QdrantClient, target: QdrantTarget) -> None:
    staged = target.stage(NAME, SMALL, ())
    threshold = stock.get_collection(staged.physical).config.optimizer_config.indexing_threshold
    assert threshold == 0
    staged.finish()
    assert stock.get_collection(staged.physical).config.optimizer_config.indexing_threshold == 10000
    staged.discard()


def test_the_switch_replaces_a_collection_by_an_alias(stock: QdrantClient, target: QdrantTarget) -> None:
    stock.create_collection(NAME, models.VectorParams(size=9, distance=models.Distance.DOT))
    staged = loaded(target)
    staged.switch()
    assert collections(stock) == [staged.physical]
    assert ids_behind(stock) == list(range(50))


def test_the_next_switch_drops_what_the_alias_led_to(stock: QdrantClient, target: QdrantTarget) -> None:
    loaded(target, aliases=("prod", "old-name")).switch()
    second = loaded(target, aliases=("prod",), rows=ROWS[:3])
    second.switch()
    assert collections(stock) == [second.physical]
    assert sorted(each.alias_name for each in stock.get_aliases().aliases) == [NAME, "prod"]
    assert ids_behind(stock, "prod") == [0, 1, 2]


def test_a_users_own_collection_behind_the_alias_is_kept(stock: QdrantClient, target: QdrantTarget) -> None:
    stock.create_collection("docs-v1", models.VectorParams(size=2, distance=models.Distance.DOT))
    for alias in (NAME, "other"):
        made = models.CreateAlias(collection_name="docs-v1", alias_name=alias)
        stock.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    staged = loaded(target)
    staged.switch()
    assert collections(stock) == ["docs-v1", staged.physical]
    assert stock.get_collection_aliases("docs-v1").aliases[0].alias_name == "other"
    assert ids_behind(stock) == list(range(50))


@pytest.mark.parametrize("alias", ["taken", "held"])
def test_aliases_are_not_taken_from_others(stock: QdrantClient, target: QdrantTarget, alias: str) -> None:
    stock.create_collection("taken", models.VectorParams(size=2, distance=models.Distance.DOT))
    made = models.CreateAlias(collection_name="taken", alias_name="held")
    stock.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    with pytest.raises(ConflictError, match=alias):
        target.stage(NAME, SMALL, (alias,))
    assert collections(stock) == ["taken"]


def test_a_name_that_leaves_no_room_is_refused(target: QdrantTarget) -> None:
    with pytest.raises(RequestError, match="may have 218"):
        target.stage("n" * 219, SMALL, ())


def test_a_broken_collection_can_be_found_and_replaced(
    server: QdrantServer, stock: QdrantClient, target: QdrantTarget
) -> None:
    stock.create_collection(NAME, models.VectorParams(size=2, distance=models.Distance.DOT))
    server.faults.status, server.faults.replica_state = "red", "Dead"
    found = target.find(NAME)
    assert found is not None
    assert found.schema.vectors[0].dimension == 2
    server.faults.clear()
    loaded(target).switch()
    assert ids_behind(stock) == list(range(50))


@pytest.mark.parametrize(
    "call",
    [
        "PUT /collections/{name}",
        "PATCH /collections/{name}",
        "Points/Upsert",
        "PUT /collections/{name}/index",
        "POST /collections/aliases",
        "DELETE /collections/{name}",
        "Points/Count",
    ],
)
@pytest.mark.parametrize("fault", ["refuse", "lose_answer", "drop_connection"])
def test_passing_failures_of_any_call_do_no_harm(
    server: QdrantServer, stock: QdrantClient, target: QdrantTarget, call: str, fault: str
) -> None:
    stock.create_collection(NAME, models.VectorParams(size=2, distance=models.Distance.DOT))
    getattr(server.faults, fault)(call, count=2)
    schema = CollectionSchema(
        vectors=SMALL.vectors, payload_indexes=(PayloadIndex(field="id", type="keyword"),)
    )
    staged = loaded(target, schema=schema)
    staged.switch()
    staged.discard()
    assert collections(stock) == [staged.physical]
    assert ids_behind(stock) == list(range(50))
    assert list(stock.get_collection(NAME).payload_schema) == ["id"]


def test_a_crash_between_delete_and_alias_keeps_the_restored_records(
    server: QdrantServer, stock: QdrantClient, target: QdrantTarget
) -> None:
    stock.create_collection(NAME, models.VectorParams(size=2, distance=models.Distance.DOT))
    staged = loaded(target)
    server.faults.refuse("POST /collections/aliases")
    with pytest.raises(UnavailableError, match=staged.physical) as failure:
        staged.switch()
    staged.discard()
    assert "alias" in failure.value.next_step
    assert collections(stock) == [staged.physical]
    assert ids_behind(stock, staged.physical) == list(range(50))
    # By hand, as the guide says:
    server.faults.clear()
    made = models.CreateAlias(collection_name=staged.physical, alias_name=NAME)
    stock.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    source = open_source(server)
    with source.hold() as view:
        assert view.collections() == [NAME]
        assert record_ids(view.scan(NAME, batch_rows=100)) == list(range(50))
    source.close()


def test_an_alias_call_of_unknown_outcome_drops_neither_side(
    server: QdrantServer, stock: QdrantClient, target: QdrantTarget
) -> None:
    first = loaded(target)
    first.switch()
    second = loaded(target, rows=ROWS[:3])
    server.faults.lose_answer("POST /collections/aliases", count=None)
    with pytest.raises(UnavailableError):
        second.switch()
    second.discard()
    assert collections(stock) == sorted([first.physical, second.physical])
    assert ids_behind(stock) == [0, 1, 2]


def test_a_server_that_stays_away_during_loading_is_reported_and_can_be_cleaned_up(
    server: QdrantServer, stock: QdrantClient, target: QdrantTarget
) -> None:
    staged = target.stage(NAME, SMALL, ())
    server.faults.refuse("Points/Upsert")
    staged.write(build_records(SMALL, ROWS))
    with pytest.raises(UnavailableError, match="writing records"):
        staged.finish()
    staged.discard()
    assert collections(stock) == []


def test_a_missing_record_is_noticed_at_the_end(stock: QdrantClient, target: QdrantTarget) -> None:
    staged = target.stage(NAME, SMALL, ())
    staged.write(build_records(SMALL, ROWS))
    while staged._pending:
        staged._settle()
    stock.delete(staged.physical, [7])
    with pytest.raises(UnavailableError, match="holds 49 records after 50 were written"):
        staged.finish()
    staged.discard()


def test_large_batches_travel_in_several_requests(server: QdrantServer, target: QdrantTarget) -> None:
    schema = schema_of(VectorSpec(name="v", dimension=1024, metric="dot"))
    rows = [Row(id=each, vectors={"v": [float(each)] * 1024}) for each in range(2500)]
    loaded(target, schema=schema, rows=rows).switch()
    assert server.faults.calls["Points/Upsert"] == 3
    found = target.find(NAME)
    assert found is not None
    assert found.record_count == 2500
