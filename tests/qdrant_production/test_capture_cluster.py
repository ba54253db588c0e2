"""Capture of a cluster: every shard from a live replica of its own node, and from another where one fails."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from recollect.errors import UnavailableError
from recollect.testing.qdrant_server import QdrantCluster, QdrantNode
from recollect.values.snapshot import CollectionEntry
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import client, make, write

PARTIAL = "POST /collections/{name}/shards/{shard}/snapshot/partial/create"


@pytest.fixture
def filled(cluster: QdrantCluster) -> Iterator[httpx.Client]:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=3, replication_factor=2)
        write(rest, range(100))
        write(rest, range(100, 150))
        yield rest


def replicas(entry: CollectionEntry) -> list[str]:
    return [shard.replica for shard in entry.shards]


def streams(node: QdrantNode) -> int:
    return node.faults.calls[PARTIAL]


@pytest.mark.usefixtures("filled")
def test_every_shard_comes_from_a_node_that_holds_it(bench: Bench, cluster: QdrantCluster) -> None:
    entry = bench.entry(cluster.url)

    assert entry.consistency == "per-shard"
    assert entry.record_count == 150
    for shard in entry.shards:
        assert int(shard.replica) in cluster.placement.replicas("docs", shard.shard_id, 2, "Active")
    assert len(set(replicas(entry))) == 3, "the shards are spread over the nodes"
    assert [streams(node) for node in cluster.nodes] == [1, 1, 1]


def test_the_next_backup_asks_the_same_replicas(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client
) -> None:
    before = bench.entry(cluster.url)
    write(filled, [3], seed=4)

    entry = bench.entry(cluster.url)

    assert replicas(entry) == replicas(before)
    assert sorted(shard.transfer for shard in entry.shards) == ["changes", "none", "none"]
    assert entry.changes.total == 1


@pytest.mark.usefixtures("filled")
def test_a_node_that_fails_is_replaced_by_another_replica(bench: Bench, cluster: QdrantCluster) -> None:
    before = bench.entry(cluster.url)
    cluster.nodes[1].stop()

    entry = bench.entry(cluster.url)

    assert str(cluster.nodes[1].peer_id) not in replicas(entry)
    assert entry.fingerprint == before.fingerprint
    assert entry.consistency == "per-shard"
    assert bench.notes == []


@pytest.mark.usefixtures("filled")
def test_a_stream_that_breaks_is_taken_from_another_replica(bench: Bench, cluster: QdrantCluster) -> None:
    cluster.nodes[2].faults.snapshots.omits_trailer = True

    entry = bench.entry(cluster.url)

    assert str(cluster.nodes[2].peer_id) not in replicas(entry)
    assert entry.record_count == 150


@pytest.mark.usefixtures("filled")
def test_a_replica_that_is_not_active_is_not_asked(bench: Bench, cluster: QdrantCluster) -> None:
    first, second, third = (node.peer_id for node in cluster.nodes)
    cluster.placement.place("docs", 0, {first: "Dead", second: "Active"})
    cluster.placement.place("docs", 1, {second: "Partial", third: "Active"})

    entry = bench.entry(cluster.url)

    assert replicas(entry)[:2] == [str(second), str(third)]


@pytest.mark.usefixtures("filled")
def test_a_shard_without_an_active_replica_is_an_error(bench: Bench, cluster: QdrantCluster) -> None:
    cluster.placement.place("docs", 1, {cluster.nodes[0].peer_id: "Dead"})

    with pytest.raises(UnavailableError, match="no active replica"):
        bench.entry(cluster.url)


@pytest.mark.usefixtures("filled")
def test_all_replicas_gone_is_an_error_and_no_snapshot(bench: Bench, cluster: QdrantCluster) -> None:
    for node in cluster.nodes:
        node.faults.refuse(PARTIAL, status=503)
        node.faults.refuse("Scroll", status=503)
    cluster.faults.refuse("Points/Scroll", status=503)

    with pytest.raises(UnavailableError):
        bench.entry(cluster.url)


@pytest.mark.usefixtures("filled")
def test_nodes_that_nobody_named_are_looked_for_on_their_own_hosts(
    bench: Bench, cluster: QdrantCluster
) -> None:
    """Here all hosts are one, so the first node answers for the others: another node's files are refused."""
    url = cluster.url.partition("&nodes=")[0]

    with pytest.raises(UnavailableError, match="is the node 1, and not") as caught:
        bench.entry(url + "&capture=snapshot")
    assert "nodes=HOST:PORT" in caught.value.next_step
    assert bench.entry(url).consistency == "fuzzy"
    assert "nodes=HOST:PORT" in bench.notes[-1]


def test_a_replica_that_moved_is_found_where_it_is(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client
) -> None:
    bench.entry(cluster.url)
    third = cluster.nodes[2].peer_id
    for shard in range(3):
        cluster.placement.place("docs", shard, {third: "Active"})
    write(filled, [9], seed=2)

    entry = bench.entry(cluster.url)

    assert set(replicas(entry)) == {str(third)}
    assert entry.changes.total == 1
    assert streams(cluster.nodes[2]) >= 3


def test_the_key_goes_to_every_node(bench: Bench) -> None:
    with QdrantCluster(bench.directory / "keyed", api_key="hush") as cluster:
        with httpx.Client(
            base_url=cluster.rest_url, trust_env=False, headers={"api-key": "hush"}, timeout=20
        ) as rest:
            make(rest, shard_number=3)
            write(rest, range(30))

        entry = bench.entry(cluster.url + "&api_key=hush")

        assert entry.record_count == 30
        assert entry.consistency == "per-shard"
