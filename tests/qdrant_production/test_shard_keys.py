"""Custom shard keys: points keep the key that they stand under, through backup, verify and restore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.engines.qdrant.place import part_name, split_name
from recollect.errors import ConflictError
from recollect.operations import drill, restore, undelete
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.snapshot import Snapshot
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import ask, client, count, drop, make, points, write

KEYS: list[Any] = ["left", 7, "7"]


@given(key=st.one_of(st.integers(0, 2**64 - 1), st.text(min_size=1)))
def test_every_key_has_a_name_of_its_own(key: str | int) -> None:
    assert split_name(part_name("docs", key)) == ("docs", key)


@pytest.fixture
def filled(rest: httpx.Client) -> httpx.Client:
    make(rest, sharding_method="custom", shard_number=2)
    for number, key in enumerate(KEYS):
        ask(rest, "PUT", "/collections/docs/shards", {"shard_key": key})
        write(rest, range(20 + number), shard_key=key, seed=number)
    ask(rest, "PUT", "/collections/docs/index", {"field_name": "n", "field_schema": "integer"})
    body = {"actions": [{"create_alias": {"collection_name": "docs", "alias_name": "d"}}]}
    ask(rest, "POST", "/collections/aliases", body)
    return rest


@pytest.fixture
def other(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "other") as running:
        yield running


def put_back(bench: Bench, snapshot: Snapshot, url: str, **options: Any) -> restore.RestoreReport:
    target = bench.target(url)
    try:
        plan = restore.plan(snapshot, target, options=restore.RestoreOptions(**options))
        return restore.apply(plan, bench.repository, target, clock=bench.clock)
    finally:
        target.close()


@pytest.mark.parametrize("capture", ["snapshot", "scroll"])
@pytest.mark.usefixtures("filled")
def test_each_key_is_a_collection_of_the_snapshot(bench: Bench, server: QdrantServer, capture: str) -> None:
    snapshot = bench.backup(f"{server.url}&capture={capture}")

    assert [entry.name for entry in snapshot.collections] == ['docs/"7"', "docs/7", "docs/left"]
    assert [entry.record_count for entry in snapshot.collections] == [22, 21, 20]
    for entry in snapshot.collections:
        keys = [shard.shard_key for shard in entry.shards]
        assert keys == ([split_name(entry.name)[1]] * 2 if capture == "snapshot" else [])
        assert entry.aliases == ("d",)


@pytest.mark.usefixtures("filled")
def test_one_key_can_be_backed_up_alone(bench: Bench, server: QdrantServer) -> None:
    assert [e.name for e in bench.backup(server.url, collections=("docs/7",)).collections] == ["docs/7"]
    assert len(bench.backup(server.url, collections=("docs",)).collections) == 3


def test_a_restore_puts_every_point_under_its_key(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url)

    report = put_back(bench, snapshot, other.url)

    assert all(collection.is_match for collection in report.collections)
    with client(other.rest_url) as rest:
        for key in KEYS:
            assert points(rest, "d", shard_key=key) == points(filled, shard_key=key)
        shards = ask(rest, "GET", "/collections/docs/cluster")["local_shards"]
        assert [shard["shard_key"] for shard in shards] == ["left", "left", 7, 7, "7", "7"]
        assert ask(rest, "GET", "/collections/docs")["payload_schema"]["n"]["points"] == 63


def test_a_second_backup_and_a_second_restore_go_on(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    put_back(bench, bench.backup(server.url), other.url)
    drop(filled, [3], shard_key=7)
    write(filled, [50], shard_key="left", seed=1)

    snapshot = bench.backup(server.url)
    assert sum(entry.changes.total for entry in snapshot.collections) == 2
    put_back(bench, snapshot, other.url, existing="replace")

    with client(other.rest_url) as rest:
        assert [count(rest, shard_key=key) for key in KEYS] == [21, 20, 22]
        assert len(ask(rest, "GET", "/collections")["collections"]) == 1


def test_restoring_one_key_never_drops_the_others(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    snapshot = bench.backup(server.url)

    with pytest.raises(ConflictError, match="would be lost"):
        put_back(bench, snapshot, server.url, collections=(("docs/7", "docs/7"),), existing="replace")

    assert [count(filled, shard_key=key) for key in KEYS] == [20, 21, 22]
    assert len(ask(filled, "GET", "/collections")["collections"]) == 1


def test_a_copy_under_another_name_keeps_its_points(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    """The server's own recovery under a new name loses all of them."""
    snapshot = bench.backup(server.url)

    put_back(bench, snapshot, server.url, collections=(("docs", "copy"),))

    assert [count(filled, "copy", shard_key=key) for key in KEYS] == [20, 21, 22]
    assert [count(filled, shard_key=key) for key in KEYS] == [20, 21, 22]


def test_a_collection_without_any_key_is_kept(bench: Bench, rest: httpx.Client, server: QdrantServer) -> None:
    make(rest, sharding_method="custom")

    entry = bench.entry(server.url)

    assert (entry.name, entry.record_count) == ("docs", 0)
    assert entry.schema.parameters["sharding_method"] == "custom"


@pytest.mark.usefixtures("filled")
def test_a_drill_on_a_server_tries_every_key_and_leaves_nothing(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url)
    target = bench.target(other.url)
    try:
        report = drill.run(
            bench.repository,
            snapshot,
            lambda _: target,
            options=drill.DrillOptions(),
            clock=bench.clock,
            random_bytes=bench.random.randbytes,
        )
    finally:
        target.close()

    assert report.failure == ""
    assert [(each.name, each.record_count, each.recall_min) for each in report.collections] == [
        ('docs/"7"', 22, 1.0),
        ("docs/7", 21, 1.0),
        ("docs/left", 20, 1.0),
    ]
    with client(other.rest_url) as rest:
        assert ask(rest, "GET", "/collections")["collections"] == []


def test_single_records_come_back_under_their_key(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    snapshot = bench.backup(server.url)
    before = [points(filled, shard_key=key) for key in KEYS]
    drop(filled, [3, 4], shard_key=7)
    drop(filled, [3], shard_key="left")
    target = bench.target(server.url)
    (entry,) = [each for each in snapshot.collections if each.name == "docs/7"]
    selection = undelete.Selection(ids=(3, 4))
    options = undelete.UndeleteOptions(target_name="docs/7", selection=selection)
    try:
        report = undelete.apply(bench.repository, entry, target, options=options, clock=bench.clock)
    finally:
        target.close()

    assert report.restored_count == 2
    after = [points(filled, shard_key=key) for key in KEYS]
    assert after[1:] == before[1:]
    assert after[0] == [each for each in before[0] if each["id"] != 3]
