"""The Qdrant source meets everything that a server can do to a scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from qdrant_client import QdrantClient, models

from recollect.clock import ManualClock
from recollect.engines.qdrant.source import QdrantSource
from recollect.errors import (
    AccessError,
    IntegrityError,
    NotFoundError,
    RecollectError,
    UnavailableError,
)
from recollect.testing.qdrant_server import QdrantServer
from recollect.testing.records import record_ids
from recollect.values.event import Event, Note
from tests.qdrant.conftest import connect, no_secret, open_source

NAME = "docs"


@pytest.fixture
def stock(server: QdrantServer) -> Iterator[QdrantClient]:
    client = connect(server)
    yield client
    client.close()


def fill(client: QdrantClient, count: int = 100, text: str = "", **create: Any) -> None:
    client.create_collection(NAME, models.VectorParams(size=2, distance=models.Distance.DOT), **create)
    points = [
        models.PointStruct(id=each, vector=[1.0, float(each)], payload={"n": each, "t": text})
        for each in range(count)
    ]
    client.upsert(NAME, points, wait=True)


def scan_ids(source: QdrantSource, *, batch_rows: int = 10, name: str = NAME) -> list[Any]:
    return record_ids(scan(source, batch_rows=batch_rows, name=name))


def scan(source: QdrantSource, *, batch_rows: int = 10, name: str = NAME) -> list[pa.RecordBatch]:
    try:
        with source.hold() as view:
            return list(view.scan(name, batch_rows=batch_rows))
    finally:
        source.close()


def test_pages_of_several_shards_lose_and_double_nothing(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, 101, shard_number=3)
    for batch_rows in (1, 10, 100, 101, 102, 1000):
        assert scan_ids(open_source(server), batch_rows=batch_rows) == list(range(101))


def test_pages_keep_to_the_limit_of_strict_mode(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=7))
    batches = scan(open_source(server), batch_rows=50)
    assert max(batch.num_rows for batch in batches) == 7
    assert record_ids(batches) == list(range(100))


def test_a_limit_that_appears_during_the_scan_shrinks_the_pages(
    server: QdrantServer, stock: QdrantClient
) -> None:
    fill(stock)
    source = open_source(server)
    with source.hold() as view:
        batches = view.scan(NAME, batch_rows=20)
        found = [next(batches)]
        strict = models.StrictModeConfig(enabled=True, max_query_limit=3)
        stock.update_collection(NAME, strict_mode_config=strict)
        found += batches
    source.close()
    assert record_ids(found) == list(range(100))
    assert found[-2].num_rows <= 3


def test_counts_are_estimates_where_strict_mode_forbids_exact_ones(
    server: QdrantServer, stock: QdrantClient
) -> None:
    fill(stock, strict_mode_config=models.StrictModeConfig(enabled=True, search_allow_exact=False))
    assert scan_ids(open_source(server)) == list(range(100))


def test_pages_shrink_below_a_message_limit(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, text="x" * 1000)
    server.faults.response_bytes_max = 9000
    assert scan_ids(open_source(server), batch_rows=100) == list(range(100))


def test_a_record_beyond_the_message_limit_is_reported(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, text="x" * 1000)
    server.faults.response_bytes_max = 500
    with pytest.raises(UnavailableError, match=r"larger than max .*one record"):
        scan_ids(open_source(server))


def test_messages_above_the_default_limit_of_grpc_pass(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, 6, text="x" * 1_500_000)
    assert scan_ids(open_source(server)) == list(range(6))


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_dropped_connection_is_retried_without_loss(
    server: QdrantServer, stock: QdrantClient, after: int
) -> None:
    fill(stock)
    server.faults.drop_connection("Points/Scroll", after=after, count=2)
    assert scan_ids(open_source(server)) == list(range(100))


def test_a_stalled_call_is_given_up_and_made_again(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    server.faults.stall("Points/Scroll", after=2)
    assert scan_ids(open_source(server, "&timeout=0.3")) == list(range(100))


def test_a_server_that_stays_silent_is_reported(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    server.faults.stall("Points/Scroll", after=2, count=None)
    with pytest.raises(UnavailableError, match=r"no answer within 0\.1 s") as failure:
        scan_ids(open_source(server, "&timeout=0.1"))
    assert "timeout=" in failure.value.next_step


def test_an_overloaded_server_is_waited_for_and_then_reported(
    server: QdrantServer, stock: QdrantClient
) -> None:
    fill(stock)
    server.faults.refuse("Points/Scroll", after=3, count=4)
    assert scan_ids(open_source(server)) == list(range(100))
    server.faults.refuse("Points/Scroll", after=3)
    with pytest.raises(UnavailableError, match="Service unavailable"):
        scan_ids(open_source(server))


def test_a_server_that_dies_during_the_scan_is_reported(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    url, port = server.url, server.grpc_port
    source = open_source(server)
    with source.hold() as view:
        batches = view.scan(NAME, batch_rows=10)
        next(batches)
        server.stop()
        with pytest.raises(UnavailableError) as failure:
            list(batches)
    source.close()
    assert url in failure.value.message
    assert str(port) in failure.value.message
    assert "gRPC port" in failure.value.next_step


def test_a_server_that_is_not_there_is_reported_with_what_to_check(server: QdrantServer) -> None:
    source = open_source(server)
    url = server.url
    server.stop()
    with pytest.raises(UnavailableError, match="REST port") as failure:
        source.info()
    assert url in failure.value.message
    assert failure.value.next_step
    source.close()


@pytest.mark.parametrize("reports", [True, False])
def test_hidden_points_are_refused(server: QdrantServer, stock: QdrantClient, *, reports: bool) -> None:
    fill(stock, optimizers_config=models.OptimizersConfigDiff(prevent_unoptimized=True))
    server.faults.hidden_points, server.faults.reports_deferred = 4, reports
    source = open_source(server)
    with source.hold() as view, pytest.raises(UnavailableError, match="prevent_unoptimized"):
        view.describe(NAME)
    with source.hold() as view, pytest.raises(UnavailableError, match="prevent_unoptimized"):
        list(view.scan(NAME, batch_rows=10))
    source.close()


def test_nothing_hidden_is_fine_although_hiding_is_on(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, optimizers_config=models.OptimizersConfigDiff(prevent_unoptimized=True))
    assert scan_ids(open_source(server)) == list(range(100))


def test_points_that_become_hidden_during_the_scan_spoil_it(
    server: QdrantServer, stock: QdrantClient
) -> None:
    fill(stock, optimizers_config=models.OptimizersConfigDiff(prevent_unoptimized=True))
    source = open_source(server)
    with source.hold() as view:
        batches = view.scan(NAME, batch_rows=10)
        next(batches)
        server.faults.hidden_points = 5
        with pytest.raises(UnavailableError, match="began to hide points"):
            list(batches)
    source.close()


@pytest.mark.parametrize(("status", "complete"), [("yellow", True), ("grey", True), ("red", False)])
def test_only_complete_collections_are_read(
    server: QdrantServer, stock: QdrantClient, status: str, *, complete: bool
) -> None:
    fill(stock)
    server.faults.status = status
    if complete:
        assert len(scan_ids(open_source(server))) == 100
    else:
        with pytest.raises(UnavailableError, match="is red"):
            scan_ids(open_source(server))


def test_a_shard_without_an_active_replica_is_refused(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    server.faults.replica_state = "Dead"
    with pytest.raises(UnavailableError, match=r"shard 0 .* no active replica: Dead"):
        scan_ids(open_source(server))


def test_a_server_that_breaks_the_order_of_ids_is_refused(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    server.faults.backwards = True
    with pytest.raises(IntegrityError, match="sent 8 after 9"):
        scan_ids(open_source(server))


def test_custom_shard_keys_are_collections_of_their_own(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock, count=0, sharding_method=models.ShardingMethod.CUSTOM)
    for key in ("left", 7):
        stock.create_shard_key(NAME, key)
        points = [models.PointStruct(id=each, vector=[1.0, 2.0]) for each in range(3)]
        stock.upsert(NAME, points, shard_key_selector=key)

    assert scan_ids(open_source(server), name=f"{NAME}/left") == [0, 1, 2]
    assert scan_ids(open_source(server), name=f"{NAME}/7") == [0, 1, 2]
    with pytest.raises(NotFoundError, match="under shard keys"):
        scan_ids(open_source(server))


def test_an_unknown_collection_is_reported_with_those_that_exist(
    server: QdrantServer, stock: QdrantClient
) -> None:
    fill(stock)
    with pytest.raises(NotFoundError, match="there are: docs"):
        scan_ids(open_source(server), name="dcos")


def test_changes_during_the_scan_are_noted(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    events: list[Event] = []
    source = open_source(server, on_event=events.append)
    with source.hold() as view:
        assert view.describe(NAME).consistency == "fuzzy"
        batches = view.scan(NAME, batch_rows=10)
        next(batches)
        stock.delete(NAME, [0, 98])
        seen = sum(batch.num_rows for batch in batches)
    source.close()
    assert seen == 89
    (note,) = events
    assert isinstance(note, Note)
    assert "100 records before, 98 after, 99 read" in note.message


def test_descriptions_of_an_unchanged_collection_are_equal(server: QdrantServer, stock: QdrantClient) -> None:
    fill(stock)
    stock.create_payload_index(NAME, "n", models.PayloadSchemaType.INTEGER)
    source = open_source(server)
    with source.hold() as view:
        first = view.describe(NAME).schema
    stock.upsert(NAME, [models.PointStruct(id=1000, vector=[1.0, 2.0], payload={"n": 1})])
    with source.hold() as view:
        assert view.describe(NAME).schema == first
    source.close()


def test_leftovers_of_restores_are_not_collections_and_are_noted(
    server: QdrantServer, stock: QdrantClient
) -> None:
    fill(stock)
    leftover = "docs.recollect-01jhm2n3p4q5r6s7t8v9w0x1y2"
    stock.create_collection(leftover, models.VectorParams(size=2, distance=models.Distance.DOT))
    events: list[Event] = []
    source = open_source(server, on_event=events.append)
    with source.hold() as view:
        assert view.collections() == [NAME]
    source.close()
    assert [isinstance(event, Note) and leftover in event.message for event in events] == [True]


def test_unsigned_integers_beyond_grpc_come_exactly(server: QdrantServer, stock: QdrantClient) -> None:
    stock.create_collection(NAME, models.VectorParams(size=1, distance=models.Distance.DOT))
    payload = {"u": 2**64 - 1, "d": 2.0**63, "deep": [{"x": 2**63 + 1}], "plain": 1}
    stock.upsert(
        NAME,
        [
            models.PointStruct(id=1, vector=[1.0], payload=payload),
            models.PointStruct(id=2, vector=[1.0], payload={"plain": 2}),
        ],
    )
    (batch,) = scan(open_source(server))
    expected = [
        b'{"d":9.223372036854776e18,"deep":[{"x":9223372036854775809}],"plain":1,"u":18446744073709551615}',
        b'{"plain":2}',
    ]
    assert batch.column("payload").to_pylist() == expected


def test_keys_open_the_server_and_stay_out_of_sight(tmp_path: Path) -> None:
    secrets = {"QDRANT_KEY": "s3cret-key", "WRONG_KEY": "wr0ng-key"}
    with QdrantServer(tmp_path, api_key="s3cret-key") as server:
        good = _keyed(f"{server.url}&api_key_env=QDRANT_KEY", secrets)
        assert good.info().url == server.url
        with good.hold() as view:
            assert view.collections() == []
        good.close()
        in_url = _keyed(server.url.replace("://", "://:s3cret-key@"), secrets)
        assert "s3cret" not in in_url.info().url
        in_url.close()
        for url in (server.url, f"{server.url}&api_key_env=WRONG_KEY", f"{server.url}&api_key=wr0ng-key"):
            bad = _keyed(url, secrets)
            with pytest.raises(AccessError) as failure:
                bad.info()
            _assert_no_secret(failure.value)
            bad.close()


def test_a_key_of_a_file_is_read_and_a_missing_one_reported(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret-key\n")
    with QdrantServer(tmp_path / "server", api_key="s3cret-key") as server:
        source = _keyed(f"{server.url}&api_key_file={tmp_path / 'key'}", {})
        assert source.info().version == "1.19.0"
        source.close()
        with pytest.raises(AccessError, match="cannot be read"):
            _keyed(f"{server.url}&api_key_file={tmp_path / 'none'}", {})
        with pytest.raises(AccessError, match="QDRANT_KEY, which is not set"):
            _keyed(f"{server.url}&api_key_env=QDRANT_KEY", {})


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_records_need_the_key_too(tmp_path: Path) -> None:
    with QdrantServer(tmp_path, api_key="s3cret-key") as server:
        client = connect(server, api_key="s3cret-key")
        fill(client)
        client.close()
        assert scan_ids(_keyed(f"{server.url}&api_key=s3cret-key", {})) == list(range(100))


def _keyed(url: str, secrets: dict[str, str]) -> QdrantSource:
    return QdrantSource(url, secrets=secrets.get, clock=ManualClock())


def _assert_no_secret(error: RecollectError) -> None:
    text = f"{error.message} {error.next_step} {error.__cause__!r}"
    assert "s3cret" not in text
    assert "wr0ng" not in text


def test_nothing_asks_for_a_secret_that_the_url_does_not_name(server: QdrantServer) -> None:
    source = QdrantSource(
        server.rest_url + f"?grpc={server.grpc_port}", secrets=no_secret, clock=ManualClock()
    )
    assert source.info().url == server.url
    source.close()
